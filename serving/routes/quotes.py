"""`/v1/quotes`: a binding price for a batch file. A batch that names the quote is billed by it, and never above it."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from billing import quoting
from billing.quoting import LineBound
from billing.rating import price_text
from serving.batches import quoting as counting
from serving.files import records
from serving.keys import KeyRecord, require_endpoint
from serving.routes.caller import InferenceCaller, Parts
from serving.routes.receipts import receipt_signer
from serving.routes.stores import Objects, TenantDatabase
from serving.routing import Target
from serving.tokens.wire import BATCHED
from studio import clock, ids
from studio.db.catalog import Quote
from studio.db.jobs import File
from studio.db.sessions import tenant_scope
from studio.errors import InvalidRequest, NotFound, ServiceUnavailable
from studio.objects import Bucket
from studio.signing import Signer
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/quotes", tags=["batches"])

FORMAT = "studio-quote/1"
VALID_FOR = timedelta(hours=24)
_ENDPOINTS = {endpoint.path: endpoint for endpoint in BATCHED}


class QuoteCreate(BaseModel):
    """What is to be quoted: a file as a batch of this endpoint."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str
    endpoint: str


class QuoteObject(BaseModel):
    """A quote. `max_cost` is net. `signature` (Ed25519, base64) is over the bytes of `document`, as of a receipt."""

    id: str
    object: Literal["quote"]
    input_file_id: str
    endpoint: str
    model: str
    currency: str
    max_cost: str
    created_at: int
    expires_at: int
    document: str
    signature: str
    key_id: str


@router.post("", status_code=201)
async def create_quote(
    body: QuoteCreate, caller: InferenceCaller, parts: Parts, store: Objects, database: TenantDatabase
) -> QuoteObject:
    """Count a batch file and promise its price for 24 hours. An engine of the model must be up to count."""
    endpoint = _ENDPOINTS.get(body.endpoint)
    if endpoint is None:
        raise InvalidRequest(f"`endpoint` must be one of {', '.join(_ENDPOINTS)}.", param="endpoint")
    require_endpoint(caller, endpoint.path)
    file, content = await asyncio.to_thread(_file, database, store, caller, body.input_file_id)
    fleet = parts.view.fleet
    target, lines = counting.read_file(content, endpoint, fleet, caller.tenant_id, caller.models)
    try:
        bounds = await counting.bounds(parts.engines, fleet, target, endpoint, lines)
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceUnavailable(
            "The model's tokenizer gave an answer that cannot be read.", retry_after=timedelta(seconds=1)
        ) from error
    return await asyncio.to_thread(_promise, database, caller, file, endpoint.path, target, bounds)


@router.get("/{quote_id}")
def retrieve_quote(quote_id: str, caller: InferenceCaller, database: TenantDatabase) -> QuoteObject:
    """A quote, as it was given."""
    with tenant_scope(database, caller.tenant_id) as session:
        row = find_quote(session, quote_id)
        return _wire(row, receipt_signer(database))


def find_quote(session: Session, quote_id: str) -> Quote:
    """The tenant's quote behind an id of the wire, within its scope."""
    try:
        row = session.get(Quote, ids.from_wire(ids.QUOTE, quote_id))
    except ValueError:
        row = None
    if row is None:
        raise NotFound(f"There is no quote `{quote_id[:80]}`.", param="quote_id")
    return row


def _file(database: Engine, store: Objects, caller: KeyRecord, file_id: str) -> tuple[File, bytes]:
    with tenant_scope(database, caller.tenant_id) as session:
        try:
            file = records.find(session, caller.tenant_id, file_id, clock.now())
        except NotFound as error:
            raise InvalidRequest(error.message, param="input_file_id") from error
    if file.purpose != "batch":
        raise InvalidRequest(
            f"The file {file_id} has the purpose `{file.purpose}`, not `batch`.", param="input_file_id"
        )
    if file.size_bytes > counting.QUOTED_BYTES_MOST:
        raise InvalidRequest(
            f"The file has {file.size_bytes:,} bytes; a quote is given for {counting.QUOTED_BYTES_MOST:,} at most."
            " Split it.",
            param="input_file_id",
        )
    content = store.get(Bucket.FILES, file.object_key)
    if content is None:
        raise InvalidRequest(f"The file {file_id} has lost its bytes: upload it again.", param="input_file_id")
    return file, content


def _promise(
    database: Engine, caller: KeyRecord, file: File, endpoint: str, target: Target, bounds: list[LineBound]
) -> QuoteObject:
    signer, id, now = receipt_signer(database), ids.uuid7(), clock.now()
    units = quoting.units_of(target.variant.task)
    with tenant_scope(database, caller.tenant_id) as session:
        currency = session.scalar(_CURRENCY, {"today": now.date()})
        if currency is None:
            raise InvalidRequest("Your organization is billed by nobody today, so nothing can be quoted.")
        rows = {unit: _price(session, caller, currency, target, unit, now) for unit in units}
        prices = quoting.require_prices({unit: row and row[1] for unit, row in rows.items()}, target.name)
        cost = quoting.max_cost(bounds, prices)
        expires_at = now + VALID_FOR
        row = Quote(
            id=id, tenant_id=caller.tenant_id, variant_id=target.variant.id, input_file_id=file.id, endpoint=endpoint,
            currency=currency, max_cost=cost, priced_at=now, valid_until=expires_at,
            document={
                "format": FORMAT,
                "id": ids.to_wire(ids.QUOTE, id),
                "tenant": ids.to_wire(ids.TENANT, caller.tenant_id),
                "input_file_id": ids.to_wire(ids.FILE, file.id),
                "input_file_sha256": file.sha256,
                "endpoint": endpoint,
                "model": target.name,
                "lines": len(bounds),
                "lines_counted_by_tokenizer": sum(line.is_counted for line in bounds),
                "prompt_tokens": sum(line.prompt_tokens for line in bounds),
                "completion_tokens_at_most": sum(line.completion_tokens for line in bounds),
                "prices": {
                    unit: {"id": ids.to_wire(ids.PRICE, found[0]), "per_million": price_text(found[1])}
                    for unit, found in rows.items() if found is not None
                },
                "currency": currency,
                "max_cost": f"{cost:.2f}",
                "priced_at": now.isoformat(),
                "valid_until": expires_at.isoformat(),
                "signed_with": signer.key_id,
            },
        )  # fmt: skip
        session.add(row)
        session.flush()
        audit_own(session, caller.actor, "quote.create", ids.to_wire(ids.QUOTE, id))
        return _wire(row, signer)


def _price(
    session: Session, caller: KeyRecord, currency: str, target: Target, unit: str, now: datetime
) -> tuple[Any, Decimal] | None:
    asked = {"tenant": caller.tenant_id, "currency": currency, "variant": target.variant.id, "unit": unit, "at": now}
    row = session.execute(_PRICE, asked).one_or_none()
    return None if row is None else (row.price_id, row.per_million)


def _wire(row: Quote, signer: Signer) -> QuoteObject:
    document = json.dumps(row.document, indent=1, ensure_ascii=False, sort_keys=True)
    return QuoteObject(
        id=ids.to_wire(ids.QUOTE, row.id),
        object="quote",
        input_file_id=ids.to_wire(ids.FILE, row.input_file_id),
        endpoint=row.endpoint,
        model=row.document["model"],
        currency=row.currency,
        max_cost=f"{row.max_cost:.2f}",
        created_at=int(row.priced_at.timestamp()),
        expires_at=int(row.valid_until.timestamp()),
        document=document,
        signature=base64.b64encode(signer.sign(document.encode())).decode(),
        key_id=signer.key_id,
    )


_CURRENCY = text("""
    select currency from tenant_billing
    where valid_from <= :today and (valid_until is null or :today < valid_until)
""")
_PRICE = text("select price_id, per_million from price_at(:tenant, :currency, :variant, :unit, :at)")
