"""The rows of fine-tunes, as the worker's role reads and changes them. What happens in between is `run.py`.

A job's state moves forward only. An attempt that ends without an end (its process was killed) leaves the job as it is:
the sensor then starts the next generation, which goes on from the last checkpoint, at most MOST_GENERATIONS times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio import clock
from studio.db.catalog import ModelVariant
from studio.db.jobs import Adapter, File, FineTuningEvent, FineTuningJob
from studio.db.tenancy import Tenant
from studio.errors import Conflict
from training.progress import ProgressEvent

MOST_GENERATIONS = 3
OPEN_STATES = ("validating_files", "queued", "running")


class AnotherRunWorks(Conflict):
    """Two runs on one job: the later one does nothing."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """An uploaded file, where it lies."""

    object_key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FineTune:
    """A job with all that a run needs to know of it."""

    id: UUID
    tenant_id: UUID
    tenant_slug: str
    state: str
    generation: int
    is_cancelled: bool  # asked for, perhaps not done yet
    created_at: datetime
    variant_id: str
    model_id: str
    weights_id: str
    weights_bytes: int
    training: InputFile
    validation: InputFile | None
    suffix: str | None
    seed: int
    hyperparameters: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """Of all its objects in the `adapters` bucket."""
        return f"{self.tenant_id.hex}/{self.id.hex}/"


@dataclass(frozen=True, slots=True)
class NewAdapter:
    """A validated adapter, as it will be served."""

    id: UUID
    name: str
    engine_name: str
    object_prefix: str
    sha256: str
    rank: int
    size_bytes: int


class Turn(Enum):
    """What the sensor does for an open job."""

    START = "start"
    WAIT = "wait"
    CANCEL = "cancel"
    RETRY = "retry"
    GIVE_UP = "give up"


def turn(job: FineTune, *, has_run: bool, is_running: bool) -> Turn:
    """From the job's row and the runs of its generation. Without any run (Dagster's database may be new) it starts."""
    if is_running:
        return Turn.WAIT
    if job.is_cancelled:
        return Turn.CANCEL
    if not has_run:
        return Turn.START
    return Turn.RETRY if job.generation < MOST_GENERATIONS else Turn.GIVE_UP


def open_jobs(session: Session) -> list[FineTune]:
    """Everything without an end, oldest first."""
    ids = session.scalars(
        select(FineTuningJob.id).where(FineTuningJob.state.in_(OPEN_STATES)).order_by(FineTuningJob.created_at)
    )
    return [fine_tune(session, id) for id in ids]


def fine_tune(session: Session, id: UUID) -> FineTune:
    """One job; it exists."""
    job, variant, slug = (
        session.execute(
            select(FineTuningJob, ModelVariant, Tenant.slug)
            .join(ModelVariant, ModelVariant.id == FineTuningJob.variant_id)
            .join(Tenant, Tenant.id == FineTuningJob.tenant_id)
            .where(FineTuningJob.id == id)
            .execution_options(populate_existing=True)
        )
        .tuples()
        .one()
    )
    return FineTune(
        id=job.id,
        tenant_id=job.tenant_id,
        tenant_slug=slug,
        state=job.state,
        generation=job.generation,
        is_cancelled=job.cancel_requested_at is not None,
        created_at=job.created_at,
        variant_id=variant.id,
        model_id=variant.model_id,
        weights_id=variant.weights_id,
        weights_bytes=variant.weights_bytes,
        training=_input_file(session, job.training_file_id),
        validation=_input_file(session, job.validation_file_id) if job.validation_file_id else None,
        suffix=job.suffix,
        seed=job.seed,
        hyperparameters=job.hyperparameters,
    )


def is_cancelled(session: Session, id: UUID) -> bool:
    """Whether somebody has asked for its end."""
    return session.scalar(select(FineTuningJob.cancel_requested_at).where(FineTuningJob.id == id)) is not None


def queue(session: Session, id: UUID, hyperparameters: Mapping[str, Any]) -> None:
    """Its files are good."""
    _change(session, id, state="queued", hyperparameters=dict(hyperparameters))


def start(session: Session, id: UUID) -> None:
    """Its trainer starts; a resumed job keeps the time of its first start."""
    _change(session, id, state="running", started_at=func.coalesce(FineTuningJob.started_at, clock.now()))


def retry(session: Session, id: UUID) -> None:
    """A new generation."""
    _change(session, id, generation=FineTuningJob.generation + 1)


def succeed(session: Session, job: FineTune, adapter: NewAdapter, trained_tokens: int) -> None:
    """The adapter and the end of the job, together. Doing it again changes nothing."""
    session.execute(
        insert(Adapter)
        .values(
            id=adapter.id,
            tenant_id=job.tenant_id,
            job_id=job.id,
            variant_id=job.variant_id,
            name=adapter.name,
            engine_name=adapter.engine_name,
            object_prefix=adapter.object_prefix,
            sha256=adapter.sha256,
            rank=adapter.rank,
            size_bytes=adapter.size_bytes,
        )
        .on_conflict_do_nothing(index_elements=[Adapter.job_id])
    )
    _change(session, job.id, state="succeeded", trained_tokens=trained_tokens, finished_at=clock.now())


def fail(session: Session, id: UUID, code: str, message: str, param: str | None = None) -> None:
    """The end, with the reason that the tenant reads."""
    error = {"code": code, "message": message, "param": param}
    _change(session, id, state="failed", error=error, finished_at=clock.now())


def give_up(session: Session, id: UUID) -> None:
    """The end after too many attempts without one."""
    message = f"Training was interrupted {MOST_GENERATIONS} times, for reasons that are ours. It is not billed."
    fail(session, id, "server_error", message)


def cancel(session: Session, id: UUID) -> None:
    """The end that was asked for."""
    _change(session, id, state="cancelled", finished_at=clock.now())


def add_event(session: Session, job: FineTune, event: ProgressEvent) -> None:
    """Copy one event of the object store. Copying it again changes nothing."""
    session.execute(
        insert(FineTuningEvent)
        .values(
            job_id=job.id,
            seq=event.seq,
            tenant_id=job.tenant_id,
            at=datetime.fromisoformat(event.at),
            level=event.level,
            type=event.type,
            message=event.message,
            data=dict(event.data),
        )
        .on_conflict_do_nothing()
    )


def copied_events(session: Session, id: UUID) -> tuple[int, int]:
    """The highest number, and the highest step reported, of the events copied so far; 0 for none."""
    step = case((FineTuningEvent.type == "metrics", FineTuningEvent.data["step"].as_integer()), else_=0)
    row = session.execute(
        select(func.coalesce(func.max(FineTuningEvent.seq), 0), func.coalesce(func.max(step), 0)).where(
            FineTuningEvent.job_id == id
        )
    ).one()
    return row[0], row[1]


@contextmanager
def exclusive(database: Engine, id: UUID) -> Iterator[None]:
    """Nobody else works on the job inside this block, whatever Dagster believes. AnotherRunWorks when somebody does."""
    with database.connect() as connection:
        is_held: bool = connection.execute(_LOCK, {"job": f"fine-tune {id}"}).scalar_one()
        connection.commit()  # the lock is the session's: no transaction stays open for hours
        if not is_held:
            raise AnotherRunWorks("Another run works on this fine-tune.")
        try:
            yield
        finally:
            connection.invalidate()  # and ends with it


def is_worked_on(session: Session, id: UUID) -> bool:
    """Whether some process holds the job now."""
    return bool(session.scalar(_IS_LOCKED, {"job": f"fine-tune {id}"}))


_LOCK = text("select pg_try_advisory_lock(hashtextextended(:job, 0))")
_IS_LOCKED = text(
    "select exists (select from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
    " and database = (select oid from pg_database where datname = current_database())"
    " and (classid::bigint << 32 | objid::bigint) = hashtextextended(:job, 0))"
)


def _input_file(session: Session, id: UUID) -> InputFile:
    key, sha256 = session.execute(select(File.object_key, File.sha256).where(File.id == id)).tuples().one()
    return InputFile(key, sha256)


def _change(session: Session, id: UUID, **values: Any) -> None:
    session.execute(
        update(FineTuningJob)
        .where(FineTuningJob.id == id, FineTuningJob.state.in_(OPEN_STATES))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
