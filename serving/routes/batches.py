"""`/v1/batches`: many requests in one file, in OpenAI's shapes. Who runs them is `serving/batches`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from serving.files import records
from serving.keys import require_endpoint
from serving.routes.caller import InferenceCaller
from serving.routes.quotes import quote_for
from serving.routes.stores import TenantDatabase
from serving.texts import STORABLE
from serving.tokens.wire import BATCHED
from studio import clock, ids
from studio.db.jobs import Batch
from studio.db.sessions import tenant_scope
from studio.db.usage import UsageEvent
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/batches", tags=["batches"])

PATHS = tuple(endpoint.path for endpoint in BATCHED)
WINDOW_HOURS = range(1, 168 + 1)
State = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
ShortText = Annotated[str, Field(max_length=512, pattern=STORABLE)]
Metadata = Annotated[dict[Annotated[str, Field(max_length=64, pattern=STORABLE)], ShortText], Field(max_length=16)]


class BatchCreate(BaseModel):
    """What a new batch is to do."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Metadata | None = None
    quote_id: str | None = None  # of `/v1/quotes`, for the same file and endpoint: its prices hold, and its limit


class BatchError(BaseModel):
    """One thing that is wrong with the file."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchErrors(BaseModel):
    """OpenAI's list of them."""

    object: Literal["list"]
    data: list[BatchError]


class RequestCounts(BaseModel):
    """Lines. Those that never ran because the batch ended early count as failed."""

    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    """Of the input tokens."""

    cached_tokens: int


class OutputDetails(BaseModel):
    """Of the output tokens."""

    reasoning_tokens: int


class BatchUsage(BaseModel):
    """What is committed so far, and so billed."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchObject(BaseModel):
    """OpenAI's batch object."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: State
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    quote_id: str | None


class BatchList(BaseModel):
    """OpenAI's page of batches."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("")
def create_batch(body: BatchCreate, caller: InferenceCaller, database: TenantDatabase) -> BatchObject:
    """Admit a batch. Its file is judged line by line before anything of it runs."""
    now = clock.now()
    if body.endpoint not in PATHS:
        raise InvalidRequest(f"`endpoint` must be one of {', '.join(PATHS)}.", param="endpoint")
    require_endpoint(caller, body.endpoint)
    window = _window(body.completion_window)
    with tenant_scope(database, caller.tenant_id) as session:
        try:
            source = records.find_to_use(session, caller.tenant_id, body.input_file_id, now)
        except NotFound as error:
            raise InvalidRequest(error.message, param="input_file_id") from error
        if source.purpose != "batch":
            raise InvalidRequest(
                f"The file {body.input_file_id} has the purpose `{source.purpose}`, not `batch`.", param="input_file_id"
            )
        row = Batch(
            id=ids.uuid7(),
            tenant_id=caller.tenant_id,
            api_key_id=caller.id,
            endpoint=body.endpoint,
            completion_window=body.completion_window,
            input_file_id=source.id,
            state="validating",
            metadata_=body.metadata,
            created_at=now,
            expires_at=now + window,
            quote_id=body.quote_id and quote_for(session, body.quote_id, source.id, body.endpoint, now).id,
        )
        session.add(row)
        try:
            session.flush()
        except IntegrityError as error:
            raise Conflict(f"The quote {body.quote_id} is used by another batch already: ask for a new one.") from error
        session.refresh(row)
        audit_own(session, caller.actor, "batch.create", ids.to_wire(ids.BATCH, row.id))
        return _wire(session, [row])[0]


@router.get("")
def list_batches(
    caller: InferenceCaller,
    database: TenantDatabase,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
) -> BatchList:
    """The tenant's batches, newest first."""
    query = select(Batch).where(Batch.tenant_id == caller.tenant_id)
    if after is not None:
        query = query.where(Batch.id < _id(after))
    with tenant_scope(database, caller.tenant_id) as session:
        rows = session.scalars(query.order_by(Batch.id.desc()).limit(limit + 1)).all()
        page = _wire(session, rows[:limit])
    return BatchList(
        object="list",
        data=page,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(rows) > limit,
    )


@router.get("/{batch_id}")
def retrieve_batch(batch_id: str, caller: InferenceCaller, database: TenantDatabase) -> BatchObject:
    """One batch."""
    with tenant_scope(database, caller.tenant_id) as session:
        return _wire(session, [_find(session, caller.tenant_id, batch_id)])[0]


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, caller: InferenceCaller, database: TenantDatabase) -> BatchObject:
    """Stop a batch. Lines that are answered stay in its output file and are billed."""
    with tenant_scope(database, caller.tenant_id) as session:
        row = _find(session, caller.tenant_id, batch_id)
        session.execute(
            update(Batch)
            .where(Batch.id == row.id, Batch.state.in_(("validating", "in_progress")))
            .values(state="cancelling", cancelling_at=clock.now())
        )
        session.refresh(row)
        if row.state not in ("cancelling", "cancelled"):
            raise Conflict(f"The batch {batch_id} is {row.state}, so it cannot be cancelled any more.")
        audit_own(session, caller.actor, "batch.cancel", batch_id)
        return _wire(session, [row])[0]


def _window(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,3})h", text)
    if match is None or int(match[1]) not in WINDOW_HOURS:
        raise InvalidRequest(
            f"`completion_window` must be whole hours from {WINDOW_HOURS[0]}h to {WINDOW_HOURS[-1]}h.",
            param="completion_window",
        )
    return timedelta(hours=int(match[1]))


def _find(session: Session, tenant_id: UUID, batch_id: str) -> Batch:
    query = select(Batch).where(Batch.id == _id(batch_id), Batch.tenant_id == tenant_id)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise _unknown(batch_id)
    return row


def _id(batch_id: str) -> UUID:
    try:
        return ids.from_wire(ids.BATCH, batch_id)
    except ValueError as error:
        raise _unknown(batch_id) from error


def _unknown(batch_id: str) -> NotFound:
    return NotFound(f"No such Batch object: {batch_id}", param="id")


def _wire(session: Session, rows: Sequence[Batch]) -> list[BatchObject]:
    usage = _usage(session, rows)
    return [_object(row, usage.get(row.id, _NOTHING)) for row in rows]


def _usage(session: Session, rows: Sequence[Batch]) -> dict[UUID, BatchUsage]:
    if not rows:
        return {}
    query = (
        select(
            UsageEvent.batch_id,
            func.sum(UsageEvent.prompt_tokens),
            func.sum(UsageEvent.cached_tokens),
            func.sum(UsageEvent.completion_tokens),
            func.sum(UsageEvent.reasoning_tokens),
        )
        .where(
            UsageEvent.tenant_id == rows[0].tenant_id,
            UsageEvent.batch_id.in_([row.id for row in rows]),
            UsageEvent.usage_day_utc >= min(row.created_at for row in rows).date(),
        )
        .group_by(UsageEvent.batch_id)
    )
    return {id: _tokens(*map(int, sums)) for id, *sums in session.execute(query) if id is not None}


def _tokens(prompt: int, cached: int, completion: int, reasoning: int) -> BatchUsage:
    return BatchUsage(
        input_tokens=prompt,
        input_tokens_details=InputDetails(cached_tokens=cached),
        output_tokens=completion,
        output_tokens_details=OutputDetails(reasoning_tokens=reasoning),
        total_tokens=prompt + completion,
    )


_NOTHING = _tokens(0, 0, 0, 0)


def _object(row: Batch, usage: BatchUsage) -> BatchObject:
    errors: list[dict[str, Any]] = row.errors or []
    return BatchObject(
        id=ids.to_wire(ids.BATCH, row.id),
        object="batch",
        endpoint=row.endpoint,
        model=row.model,
        errors=BatchErrors(object="list", data=[BatchError(**error) for error in errors]) if errors else None,
        input_file_id=ids.to_wire(ids.FILE, row.input_file_id),
        completion_window=row.completion_window,
        status=row.state,
        output_file_id=_file_id(row.output_file_id),
        error_file_id=_file_id(row.error_file_id),
        created_at=int(row.created_at.timestamp()),
        in_progress_at=_seconds(row.in_progress_at),
        expires_at=int(row.expires_at.timestamp()),
        finalizing_at=_seconds(row.finalizing_at),
        completed_at=_seconds(row.completed_at),
        failed_at=_seconds(row.failed_at),
        expired_at=_seconds(row.expired_at),
        cancelling_at=_seconds(row.cancelling_at),
        cancelled_at=_seconds(row.cancelled_at),
        request_counts=RequestCounts(total=row.lines_total, completed=row.lines_completed, failed=row.lines_failed),
        usage=usage,
        metadata=row.metadata_,
        quote_id=None if row.quote_id is None else ids.to_wire(ids.QUOTE, row.quote_id),
    )


def _file_id(id: UUID | None) -> str | None:
    return None if id is None else ids.to_wire(ids.FILE, id)


def _seconds(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())
