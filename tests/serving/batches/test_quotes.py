"""Quotes as a customer has them: counted, signed, used by one batch."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
from sqlalchemy import select

from billing import price_book, usage
from studio import clock, ids
from studio.db.catalog import Quote
from studio.db.sessions import engine_for, tenant_scope, unit_of_work
from studio.db.usage import UsageEvent
from studio.signing import is_signed
from tests.serving.batches.books import serving_engine
from tests.serving.batches.conftest import Customer
from tests.serving.batches.orders import line, wait_for_state
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess

PATH = "/v1/chat/completions"


def upload(customer: Customer, *lines: str) -> str:
    return customer.sdk.files.create(file=("orders.jsonl", "\n".join(lines).encode()), purpose="batch").id


def post(customer: Customer, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {customer.key.text}"}
    return httpx.post(f"{str(customer.sdk.base_url).rstrip('/')}{path}", json=body, headers=headers, timeout=30)


def test_a_quote_is_counted_signed_and_billed_by(
    customer: Customer, rival: Customer, batch_gateway: GatewayProcess, batch_workers: Workers, house: House
) -> None:
    with serving_engine(house):
        file = upload(customer, *(line(f"a {n}", max_tokens=1_000, n=2) for n in range(3)))
        answer = post(customer, "/quotes", input_file_id=file, endpoint=PATH)
        assert answer.status_code == 201, answer.text
        quote = answer.json()
        document = json.loads(quote["document"])
        counted = [document[name] for name in ("lines", "lines_counted_by_tokenizer", "completion_tokens_at_most")]
        assert counted == [3, 3, 6_000]
        assert document["prompt_tokens"] > 0
        keys = httpx.get(f"{batch_gateway.url}/.well-known/studio-signing-keys").json()["data"]
        (pem,) = [key["public_key"] for key in keys if key["id"] == quote["key_id"]]
        with house.database.superuser() as connection:
            signature = connection.execute("select decode(%s, 'base64')", (quote["signature"],)).fetchone()
        assert signature is not None
        assert is_signed(quote["document"].encode(), signature[0], pem)
        again = httpx.get(
            f"{batch_gateway.url}/v1/quotes/{quote['id']}", headers={"authorization": f"Bearer {customer.key.text}"}
        )
        assert again.json() == quote

        with unit_of_work(house.operator) as session:
            now = clock.now()
            price_book.set_price(
                session, tenant_id=customer.tenant_id, variant_id=CHAT, unit="batch_completion",
                per_million=Decimal(1_000_000), tiers=(), valid_from=now, valid_until=None, retroactive=False,
                by="key:finance", reason="dearer", now=now,
            )  # fmt: skip
        order = {"input_file_id": file, "endpoint": PATH, "completion_window": "24h", "quote_id": quote["id"]}
        assert post(rival, "/batches", **order | {"input_file_id": upload(rival, line("b"))}).status_code == 404
        elsewhere = post(customer, "/batches", **order | {"input_file_id": upload(customer, line("b"))})
        assert (elsewhere.status_code, elsewhere.json()["error"]["param"]) == (400, "quote_id")
        batch = post(customer, "/batches", **order)
        assert (batch.status_code, batch.json()["quote_id"]) == (200, quote["id"])
        assert post(customer, "/batches", **order).status_code == 409
        batch_workers.drain()
        wait_for_state(customer.sdk, customer.sdk.batches.retrieve(batch.json()["id"]), "completed")
    engine = engine_for(house.database.url("gateway"))
    with tenant_scope(engine, customer.tenant_id) as session:
        events = session.scalars(select(UsageEvent.id).where(UsageEvent.batch_id.is_not(None))).all()
        units = [unit for id in events for unit in usage.units_of_event(session, customer.tenant_id, id)]
    engine.dispose()
    assert len(events) == 3
    assert {unit.basis for unit in units} == {quote["id"]}
    quoted = {unit: Decimal(price["per_million"]) for unit, price in document["prices"].items()}
    assert all(unit.per_million == quoted[unit.unit] for unit in units)
    cost = sum(unit.tokens * unit.per_million for unit in units if unit.per_million is not None) / 1_000_000
    assert 0 < cost <= Decimal(quote["max_cost"])


def test_an_expired_quote_and_what_cannot_be_quoted_are_refused(customer: Customer, house: House) -> None:
    file = upload(customer, line("a"))
    engine = engine_for(house.database.url("gateway"))
    with tenant_scope(engine, customer.tenant_id) as session:
        began = clock.now() - timedelta(days=2)
        old = Quote(
            id=ids.uuid7(), tenant_id=customer.tenant_id, variant_id=CHAT, input_file_id=ids.from_wire(ids.FILE, file),
            endpoint=PATH, currency="EUR", max_cost=Decimal(1), priced_at=began, valid_until=began + timedelta(days=1),
            document={},
        )  # fmt: skip
        session.add(old)
        session.flush()
        id = ids.to_wire(ids.QUOTE, old.id)
    engine.dispose()
    order = {"input_file_id": file, "endpoint": PATH, "completion_window": "24h", "quote_id": id}
    refused = post(customer, "/batches", **order)
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        f"The quote {id} has expired: ask for a new one.",
    )
    broken = post(customer, "/quotes", input_file_id=upload(customer, line("a"), line("a")), endpoint=PATH)
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "duplicate_custom_id")
    asleep = post(customer, "/quotes", input_file_id=file, endpoint=PATH)
    assert asleep.status_code == 503  # nobody is there to count
