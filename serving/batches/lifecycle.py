"""The states of a batch, from its file to its results. A transition tests the state that it leaves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Update, exists, select, text, update
from sqlalchemy.orm import Session

from serving.batches import shards
from serving.batches.planner import Span
from serving.batches.validation import Finding
from serving.routing import Target
from studio.db.jobs import Batch, BatchShard, File
from studio.db.tenancy import ApiKey

EndState = Literal["completed", "expired", "cancelled"]
ReasonToStop = Literal["cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is."""

    batch_id: UUID
    tenant_id: UUID
    state: str
    model: str | None
    completed: int
    failed: int
    total: int
    unbilled_tokens: int


@dataclass(frozen=True, slots=True)
class WaitingBatch:
    """A batch whose file is still to be judged."""

    id: UUID
    tenant_id: UUID
    endpoint: str
    input_key: str
    models: Sequence[str] | None = None  # that its key is confined to; None: all


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What a worker could do now."""

    batches: int
    since: datetime | None  # the oldest of them


def open_work(session: Session, now: datetime) -> OpenWork:
    """Batches that a worker could bring forward now: those that only wait for a replica do not count."""
    row = session.execute(_OPEN_WORK, {"now": now}).one()
    return OpenWork(row.batches, row.since)


def to_validate(session: Session, put_off: Collection[UUID] = ()) -> WaitingBatch | None:
    """The batch that has waited longest for its validation, but for those put off."""
    row = session.execute(
        select(Batch.id, Batch.tenant_id, Batch.endpoint, File.object_key, ApiKey.models)
        .join(File, File.id == Batch.input_file_id)
        .join(ApiKey, ApiKey.id == Batch.api_key_id, isouter=True)
        .where(Batch.state == "validating", Batch.id.not_in(put_off))
        .order_by(Batch.id)
        .limit(1)
    ).one_or_none()
    return None if row is None else WaitingBatch(*row)


def begin(
    session: Session, batch: WaitingBatch, target: Target, lines: int, spans: Sequence[Span], now: datetime
) -> bool:
    """validating -> in_progress, with its shards; False when it was cancelled meanwhile."""
    statement = _moved(batch.id, ("validating",)).values(
        state="in_progress", in_progress_at=now, variant_id=target.variant.id, model=target.name, lines_total=lines
    )
    if session.scalars(statement.returning(Batch.id)).one_or_none() is None:
        return False
    shards.add(session, batch.id, batch.tenant_id, spans)
    return True


def fail(session: Session, batch_id: UUID, findings: Sequence[Finding], now: datetime) -> None:
    """validating -> failed, with everything that is wrong with the file."""
    session.execute(
        _moved(batch_id, ("validating",)).values(
            state="failed", failed_at=now, errors=[asdict(finding) for finding in findings]
        )
    )


def expire(session: Session, now: datetime) -> None:
    """Note which batches are over their time. What has not begun of them is not run any more."""
    session.execute(
        update(Batch)
        .where(Batch.state == "in_progress", Batch.expires_at <= now, Batch.expired_at.is_(None))
        .values(expired_at=now)
    )


def last_progress(session: Session) -> datetime | None:
    """When a batch last came, changed its state or got a shard done."""
    at: datetime | None = session.execute(_LAST_PROGRESS).scalar_one()
    return at


def reasons_to_stop(session: Session, batch_ids: Collection[UUID]) -> dict[UUID, ReasonToStop]:
    """Which of these batches are not to be run further, and why."""
    query = select(Batch.id, Batch.state, Batch.expired_at).where(Batch.id.in_(batch_ids))
    stopped: dict[UUID, ReasonToStop] = {}
    for id, state, expired_at in session.execute(query):
        if state in ("cancelling", "cancelled"):
            stopped[id] = "cancelled"
        elif expired_at is not None:
            stopped[id] = "expired"
    return stopped


def run_out(session: Session, put_off: Collection[UUID] = ()) -> list[UUID]:
    """Batches of which no line is left to run, but for those put off."""
    unfinished = exists().where(BatchShard.batch_id == Batch.id, BatchShard.state != "done")
    query = select(Batch.id).where(
        Batch.state.in_(("in_progress", "finalizing", "cancelling")), ~unfinished, Batch.id.not_in(put_off)
    )
    return list(session.scalars(query.order_by(Batch.id)))


def finalize(session: Session, batch_id: UUID, now: datetime) -> None:
    """in_progress -> finalizing."""
    session.execute(_moved(batch_id, ("in_progress",)).values(state="finalizing", finalizing_at=now))


def end(
    session: Session, batch: Batch, output_file_id: UUID | None, error_file_id: UUID | None, now: datetime
) -> EndState:
    """finalizing -> completed or expired, cancelling -> cancelled."""
    state: EndState = "completed"
    if batch.state == "cancelling":
        state = "cancelled"
    elif batch.expired_at is not None:
        state = "expired"
    values = {"state": state, "output_file_id": output_file_id, "error_file_id": error_file_id, f"{state}_at": now}
    session.execute(_moved(batch.id, ("finalizing", "cancelling")).values(values))
    return state


def progress(session: Session, batch_id: UUID) -> Progress:
    """How far a batch is."""
    return Progress(*session.execute(select(*_PROGRESS).where(Batch.id == batch_id)).one())


def recent(session: Session, limit: int) -> list[Progress]:
    """The newest batches of all tenants."""
    return [Progress(*row) for row in session.execute(select(*_PROGRESS).order_by(Batch.id.desc()).limit(limit))]


_PROGRESS = (
    Batch.id,
    Batch.tenant_id,
    Batch.state,
    Batch.model,
    Batch.lines_completed,
    Batch.lines_failed,
    Batch.lines_total,
    Batch.unbilled_tokens,
)


_LAST_PROGRESS = text("""
    select greatest(
        (select max(greatest(created_at, in_progress_at, finalizing_at, completed_at, failed_at, expired_at,
                             cancelling_at, cancelled_at)) from batches),
        (select max(s.done_at) from batches b join batch_shards s on s.batch_id = b.id
         where b.state in ('in_progress', 'cancelling')))
""")


def _moved(batch_id: UUID, from_states: tuple[str, ...]) -> Update:
    return update(Batch).where(Batch.id == batch_id, Batch.state.in_(from_states))


_OPEN_WORK = text("""
    select count(*) as batches, min(b.created_at) as since
    from batches b
    where b.state in ('validating', 'finalizing', 'cancelling')
       or b.state = 'in_progress' and (
           b.expires_at <= :now
           or not exists (select 1 from batch_shards s where s.batch_id = b.id and s.state <> 'done')
           or exists (select 1 from replicas r join model_variants v on r.variant_id = coalesce(v.served_by, v.id)
                      where v.id = b.variant_id and r.state = 'ready'))
""")
