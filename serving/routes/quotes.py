"""`/v1/quotes`: a binding price for a batch file or a fine-tune. What names the quote pays by it, and never more."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from billing import quoting
from billing.rating import price_text
from serving import fine_tune_quoting, routing
from serving.batches import quoting as batch_quoting
from serving.files import records
from serving.gateway import Gateway
from serving.keys import KeyRecord, require_endpoint, require_model
from serving.routes.caller import InferenceCaller, Parts
from serving.routes.receipts import receipt_signer
from serving.routes.stores import Objects, TenantDatabase
from serving.routing import Target
from serving.tokens.wire import BATCHED
from studio import clock, ids, training_usage
from studio.db.catalog import Quote
from studio.db.jobs import File
from studio.db.sessions import tenant_scope
from studio.errors import InvalidRequest, NotFound, ServiceUnavailable
from studio.fine_tuning.hyperparameters import MOST_EPOCHS
from studio.objects import Bucket, ObjectStore
from studio.signing import Signer
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/quotes", tags=["batches", "fine-tuning"])

FORMAT = "studio-quote/1"
VALID_FOR = timedelta(hours=24)
_ENDPOINTS = {endpoint.path: endpoint for endpoint in BATCHED}


class QuoteCreate(BaseModel):
    """What is to be quoted: a file as a batch of an endpoint, or a file as the examples of a fine-tune of a model."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str | None = None
    endpoint: str | None = None
    training_file: str | None = None
    model: str | None = None
    n_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | Literal["auto"] | None = None


class QuoteObject(BaseModel):
    """A quote. `max_cost` is net. `signature` (Ed25519, base64) is over the bytes of `document`, as of a receipt.

    One for a fine-tune has `training_file` and `n_epochs`, one for a batch `input_file_id`.
    """

    id: str
    object: Literal["quote"]
    input_file_id: str | None
    training_file: str | None
    n_epochs: int | None
    endpoint: str
    model: str
    currency: str
    max_cost: str
    created_at: int
    expires_at: int
    document: str
    signature: str
    key_id: str


@dataclass(frozen=True, slots=True)
class _Counted:
    """A file that was counted, as it becomes a quote."""

    file: File
    endpoint: str
    target: Target
    units: Sequence[str]
    cost: Callable[[Mapping[str, Decimal]], Decimal]  # by the prices of those units
    document: Mapping[str, Any]  # all that only this kind of quote says


@router.post("", status_code=201)
async def create_quote(
    body: QuoteCreate, caller: InferenceCaller, parts: Parts, store: Objects, database: TenantDatabase
) -> QuoteObject:
    """Count a batch file, or the examples of a fine-tune, and promise its price for 24 hours. An engine of the model
    must be up to count.
    """
    match body:
        case QuoteCreate(input_file_id=str(id), endpoint=str(path), training_file=None, model=None, n_epochs=None):
            counting = _count_batch(id, path, caller, parts, store, database)
        case QuoteCreate(training_file=str(id), model=str(name), input_file_id=None, endpoint=None):
            counting = _count_fine_tune(id, name, body.n_epochs or "auto", caller, parts, store, database)
        case _:
            raise InvalidRequest(
                "Give `input_file_id` and `endpoint` for a batch, or `training_file` and `model` (and `n_epochs`) for a"
                " fine-tune, and nothing of the other."
            )
    return await asyncio.to_thread(_promise, database, caller, await counting)


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


def quote_for(session: Session, quote_id: str, file_id: UUID, endpoint: str, now: datetime) -> Quote:
    """The tenant's quote, for work on this file that begins now. Whether it was used the table says."""
    quote = find_quote(session, quote_id)
    if (quote.input_file_id, quote.endpoint) != (file_id, endpoint):
        raise InvalidRequest(f"The quote {quote_id} is for another file or endpoint.", param="quote_id")
    if quote.valid_until <= now:
        raise InvalidRequest(f"The quote {quote_id} has expired: ask for a new one.", param="quote_id")
    return quote


async def _count_batch(
    file_id: str, path: str, caller: KeyRecord, parts: Gateway, store: ObjectStore, database: Engine
) -> _Counted:
    endpoint = _ENDPOINTS.get(path)
    if endpoint is None:
        raise InvalidRequest(f"`endpoint` must be one of {', '.join(_ENDPOINTS)}.", param="endpoint")
    require_endpoint(caller, endpoint.path)
    file, content = await asyncio.to_thread(_file, database, store, caller, file_id, "batch", "input_file_id")
    fleet = parts.view.fleet
    target, lines = batch_quoting.read_file(content, endpoint, fleet, caller.tenant_id, caller.models)
    with _readable():
        bounds = await batch_quoting.bounds(parts.engines, fleet, target, endpoint, lines)
    return _Counted(
        file=file,
        endpoint=endpoint.path,
        target=target,
        units=quoting.units_of(target.variant.task),
        cost=partial(quoting.max_cost, bounds),
        document={
            "input_file_id": ids.to_wire(ids.FILE, file.id),
            "input_file_sha256": file.sha256,
            "lines": len(bounds),
            "lines_counted_by_tokenizer": sum(line.is_counted for line in bounds),
            "prompt_tokens": sum(line.prompt_tokens for line in bounds),
            "completion_tokens_at_most": sum(line.completion_tokens for line in bounds),
        },
    )


async def _count_fine_tune(
    file_id: str,
    model: str,
    n_epochs: int | str,
    caller: KeyRecord,
    parts: Gateway,
    store: ObjectStore,
    database: Engine,
) -> _Counted:
    require_endpoint(caller, training_usage.ENDPOINT)
    require_model(caller, model)
    fleet = parts.view.fleet
    target = routing.tunable_target(fleet, model, caller.tenant_id)
    file, content = await asyncio.to_thread(_file, database, store, caller, file_id, "fine-tune", "training_file")
    examples = fine_tune_quoting.read_examples(content)
    with _readable():
        training = await fine_tune_quoting.measure(parts.engines, fleet, target, examples, n_epochs)
    return _Counted(
        file=file,
        endpoint=training_usage.ENDPOINT,
        target=target,
        units=quoting.TRAINING_UNITS,
        cost=partial(quoting.training_cost, training.tokens),
        document={
            "training_file": ids.to_wire(ids.FILE, file.id),
            "training_file_sha256": file.sha256,
            "examples": training.examples,
            "example_tokens": training.example_tokens,
            "n_epochs": training.n_epochs,
            "tokens": training.tokens,
        },
    )


@contextmanager
def _readable() -> Iterator[None]:
    """What the tokenizer answers is read in here."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceUnavailable(
            "The model's tokenizer gave an answer that cannot be read.", retry_after=timedelta(seconds=1)
        ) from error


def _file(
    database: Engine, store: ObjectStore, caller: KeyRecord, file_id: str, purpose: str, param: str
) -> tuple[File, bytes]:
    with tenant_scope(database, caller.tenant_id) as session:
        try:
            file = records.find(session, caller.tenant_id, file_id, clock.now())
        except NotFound as error:
            raise InvalidRequest(error.message, param=param) from error
    if file.purpose != purpose:
        raise InvalidRequest(f"The file {file_id} has the purpose `{file.purpose}`, not `{purpose}`.", param=param)
    if file.size_bytes > batch_quoting.QUOTED_BYTES_MOST:
        raise InvalidRequest(
            f"The file has {file.size_bytes:,} bytes; a quote is given for {batch_quoting.QUOTED_BYTES_MOST:,} at"
            " most. Split it.",
            param=param,
        )
    content = store.get(Bucket.FILES, file.object_key)
    if content is None:
        raise InvalidRequest(f"The file {file_id} has lost its bytes: upload it again.", param=param)
    return file, content


def _promise(database: Engine, caller: KeyRecord, counted: _Counted) -> QuoteObject:
    signer, id, now, target = receipt_signer(database), ids.uuid7(), clock.now(), counted.target
    with tenant_scope(database, caller.tenant_id) as session:
        currency = session.scalar(_CURRENCY, {"today": now.date()})
        if currency is None:
            raise InvalidRequest("Your organization is billed by nobody today, so nothing can be quoted.")
        rows = {unit: _price(session, caller, currency, target, unit, now) for unit in counted.units}
        prices = quoting.require_prices({unit: row and row[1] for unit, row in rows.items()}, target.name)
        cost = counted.cost(prices)
        expires_at = now + VALID_FOR
        row = Quote(
            id=id, tenant_id=caller.tenant_id, variant_id=target.variant.id, input_file_id=counted.file.id,
            endpoint=counted.endpoint, currency=currency, max_cost=cost, priced_at=now, valid_until=expires_at,
            document={
                **counted.document,
                "format": FORMAT,
                "id": ids.to_wire(ids.QUOTE, id),
                "tenant": ids.to_wire(ids.TENANT, caller.tenant_id),
                "endpoint": counted.endpoint,
                "model": target.name,
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
    is_training, file_id = row.endpoint == training_usage.ENDPOINT, ids.to_wire(ids.FILE, row.input_file_id)
    return QuoteObject(
        id=ids.to_wire(ids.QUOTE, row.id),
        object="quote",
        input_file_id=None if is_training else file_id,
        training_file=file_id if is_training else None,
        n_epochs=row.document["n_epochs"] if is_training else None,
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
