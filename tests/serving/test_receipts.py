"""Receipts of single requests: they say what is rated, can be checked without us, and are one's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select

from billing import price_book
from billing.tiers import Tier
from studio import ids
from studio.db.invoices import RatedLine
from studio.settings import REPOSITORY
from studio.tenants import create_key
from tests.billing.books import CHAT, Books
from tests.server import TestServer
from tests.serving.gateway_process import GatewayProcess

MIDNIGHT = datetime(2026, 3, 9, 23, tzinfo=UTC)  # in Berlin
DAY = date(2026, 3, 10)


@dataclass(frozen=True)
class Desk:
    """A tenant with a rated day behind it, and a gateway that gives receipts."""

    books: Books
    url: str
    keys: dict[str, str]  # of the tenant, and of another one
    requests: dict[str, UUID]

    def receipt(self, request: str, of: str = "kunde") -> httpx.Response:
        id = f"req_{self.requests[request].hex}" if request in self.requests else request
        return httpx.get(f"{self.url}/v1/receipts/{id}", headers={"authorization": f"Bearer {self.keys[of]}"})

    def document(self, request: str) -> dict[str, Any]:
        answer = self.receipt(request)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = json.loads(answer.json()["document"])
        return document


@pytest.fixture(scope="module")
def desk(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    books = Books(server.database())
    books.open()
    tenant, other, shipper = books.tenant(), books.tenant("nachbar"), books.gateway()
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id=CHAT, unit="completion", per_million=Decimal("0.005"),
            tiers=[Tier(10**9, Decimal("0.004"))], valid_from=MIDNIGHT, valid_until=None, retroactive=False,
            by="key:finance", reason="contract 7", now=MIDNIGHT,
        )  # fmt: skip
    noon = MIDNIGHT + timedelta(hours=12)
    requests = {
        "own": shipper.uses(tenant, noon, prompt=1_000, cached=400, completion=50),
        "fast": shipper.uses(tenant, noon, prompt=10, completion=7, variant="chat-fast"),
        "reused": shipper.uses(tenant, noon, prompt=30, completion=3, reused_prompt=30, reused_completion=3),
    }
    books.close_day(shipper, tenant, DAY)
    requests["nothing"] = shipper.uses(tenant, noon)
    requests["unpriced"] = shipper.uses(tenant, noon, prompt=3, completion=1, variant="chat-fast", reused_prompt=3)
    requests["no request"] = shipper.uses(tenant, noon, prompt=5, endpoint="storage", variant="storage")
    with books.as_role("operator") as session:
        keys = {
            slug: create_key(session, id, "finance", "tests", scopes=["usage"]).text
            for slug, id in (("kunde", tenant), ("nachbar", other))
        }
        keys["inference only"] = create_key(session, tenant, "chat", "tests", scopes=["inference"]).text
    with GatewayProcess(books.database, tmp_path_factory.mktemp("gateway")) as gateway:
        yield Desk(books, gateway.url, keys, requests)
    books.close()


def test_receipts_come_to_what_was_rated(desk: Desk) -> None:
    documents = [desk.document(name) for name in ("own", "fast", "reused")]
    with desk.books.as_role("auditor") as session:
        rated = session.scalars(select(func.sum(RatedLine.amount))).one()
    assert sum(Decimal(document["amount"]) for document in documents) == rated
    own, fast, _ = documents
    assert {line["unit"]: (line["tokens"], line["price"]["list"], line["amount"]) for line in own["lines"]} == {
        "prompt": (600, "EUR", "0.000012000000"),
        "cached_prompt": (400, "EUR", "0.000004000000"),
        "completion": (50, "your own", "0.000000250000"),
    }
    assert (own["charged"], own["currency"], own["billing_day"]) == (True, "EUR", "2026-03-10")
    assert (fast["tier_requested"], fast["tier_served"], fast["model"]) == ("fast", "fast", "chat-fast")
    assert own["why"] == "the request was answered to its end"


def test_usage_shows_what_its_receipts_come_to(desk: Desk) -> None:
    def usage(**asked: str) -> list[dict[str, Any]]:
        params = {"start": "2026-03-10", "end": "2026-03-11", "group_by": "model,hour", "costs": "true"} | asked
        headers = {"authorization": f"Bearer {desk.keys['kunde']}"}
        answer = httpx.get(f"{desk.url}/v1/usage", params=params, headers=headers)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    chat, fast = usage()
    own, reused, quick = (Decimal(desk.document(name)["amount"]) for name in ("own", "reused", "fast"))
    assert (chat["model"], chat["hour"], chat["requests"]) == ("chat", "2026-03-10T11:00:00Z", 3)
    assert [(cost["currency"], Decimal(cost["amount"])) for cost in chat["costs"]] == [("EUR", own + reused)]
    one_more = Decimal("0.064") / 10**6  # the request "unpriced" has an answer of one token, which has a price
    assert (Decimal(fast["costs"][0]["amount"]), fast["costs"][0]["unpriced_tokens"]) == (quick + one_more, 3)
    assert usage(costs="false", group_by="")[0]["costs"] is None
    assert usage(start="2026-03-01", end="2026-03-02") == []


def test_several_come_to_what_their_receipts_say_together(desk: Desk) -> None:
    def asked(ids: list[str], of: str = "kunde") -> httpx.Response:
        headers = {"authorization": f"Bearer {desk.keys[of]}"}
        return httpx.post(f"{desk.url}/v1/receipts/sum", json={"request_ids": ids}, headers=headers)

    named = [f"req_{desk.requests[name].hex}" for name in ("own", "fast", "reused", "nothing", "own")]
    lost = f"req_{ids.uuid7_of(MIDNIGHT, b'lost').hex}"
    found = asked([*named, lost]).json()
    amount = sum(Decimal(desk.document(name)["amount"]) for name in ("own", "fast", "reused"))
    assert (found["requests"], found["known"]) == (5, 4)
    assert [(cost["currency"], Decimal(cost["amount"])) for cost in found["costs"]] == [("EUR", amount)]
    assert found["costs"][0]["unpriced_tokens"] == 0
    kept = asked([f"req_{desk.requests['no request'].hex}"]).json()
    assert (kept["known"], kept["costs"]) == (0, [])
    assert asked(named, of="nachbar").json() == {"object": "receipt.sum", "requests": 4, "known": 0, "costs": []}
    assert asked(named, of="inference only").status_code == 403
    far = f"req_{ids.uuid7_of(MIDNIGHT + timedelta(days=40), b'far').hex}"
    for bad in (["req_nonsense"], [f"req_{'f' * 32}"], [*named, far], []):
        refused = asked(bad)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "request_ids"), refused.text


@pytest.mark.parametrize(
    ("request_", "why"),
    [("nothing", "not charged: no tokens were used"), ("unpriced", "there is not exactly one price of reused")],
)
def test_what_is_not_charged_says_why(desk: Desk, request_: str, why: str) -> None:
    document = desk.document(request_)
    assert (document["charged"], document["amount"], document["lines"]) == (False, "0", [])
    assert why in document["why"]


def test_a_receipt_is_checked_without_us_by_the_documented_script_and_the_command(desk: Desk, tmp_path: Path) -> None:
    script, receipt, keys = tmp_path / "check.py", tmp_path / "receipt.json", tmp_path / "keys.json"
    guide = (REPOSITORY / "docs/user-guide.md").read_text()
    found = re.search(r"## Receipts\n.*?```python\n(.*?)```", guide, re.DOTALL)
    assert found is not None
    script.write_text(found[1])
    receipt.write_text(desk.receipt("own").text)
    keys.write_text(httpx.get(f"{desk.url}/.well-known/studio-signing-keys").text)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)

    checked = run(sys.executable, str(script), str(receipt), str(keys))
    assert checked.stdout == f"req_{desk.requests['own'].hex} True 0.000016250000 EUR\n", checked.stderr
    verify = (str(REPOSITORY / "bin/studio"), "receipt", "verify", str(receipt), "--keys", str(keys))
    assert "Genuine." in run(*verify).stdout
    receipt.write_text(receipt.read_text().replace("0.000016250000", "0.000006250000"))
    assert run(sys.executable, str(script), str(receipt), str(keys)).returncode != 0
    refused = run(*verify)
    assert refused.returncode == 1
    assert "is not what was signed" in refused.stderr


def test_the_same_receipt_is_given_again(desk: Desk) -> None:
    assert desk.receipt("fast").json() == desk.receipt("fast").json()


def test_strangers_find_nothing(desk: Desk) -> None:
    assert httpx.get(f"{desk.url}/v1/receipts/req_{desk.requests['own'].hex}").status_code == 401
    assert desk.receipt("own", of="inference only").status_code == 403
    assert desk.receipt("own", of="nachbar").status_code == 404
    unknown = desk.receipt("req_00000000000070008000000000000000")
    assert unknown.status_code == 404
    assert "refused used nothing and is never charged" in unknown.json()["error"]["message"]
    for nonsense in ("nonsense", f"req_{'f' * 32}"):
        assert desk.receipt(nonsense).status_code == 404
