"""The rows of fine-tunes, as the worker's role reads and changes them. What happens in between is `run.py`.

A job's state moves forward only. An attempt that ends without an end (its process was killed) leaves the job as it is:
the sensor then starts the next generation, which goes on from the last checkpoint. It gives up after MOST_FRUITLESS
generations in a row that brought no new step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, bindparam, case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from studio import clock
from studio.db.catalog import ModelVariant
from studio.db.jobs import Adapter, File, FineTuningEvent, FineTuningJob
from studio.db.tenancy import Tenant
from studio.errors import Conflict
from training import metering
from training.progress import ProgressEvent

MOST_FRUITLESS = 3
_PATIENCE = timedelta(seconds=30)  # before a job is tried again; doubled by each fruitless generation
OPEN_STATES = ("validating_files", "queued", "running")


class AnotherRunWorks(Conflict):
    """Two runs on one job: the later one does nothing."""


class HoldLost(Exception):
    """The job's lock has gone with its connection, so another run may have begun. This one has to end."""


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
    progressed_generation: int  # the newest that brought a step; 0 for none
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
    def fruitless_generations(self) -> int:
        """In a row, up to the present one, as long as that has brought nothing."""
        return self.generation - self.progressed_generation

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


def turn(job: FineTune, *, is_running: bool, is_held: bool, ended_at: datetime | None, now: datetime) -> Turn:
    """From the job's row and the runs of its generation: whether one is on its way, and when the newest one ended.

    `is_held`: a process works on the job, and will see by itself that it was cancelled. Without any run (Dagster's
    database may be new) the job starts.
    """
    if job.is_cancelled and not is_held:
        return Turn.CANCEL  # also while its run waits for its turn: that run will find the job over
    if is_running or is_held:
        return Turn.WAIT
    if ended_at is None:
        return Turn.START
    if job.fruitless_generations >= MOST_FRUITLESS:
        return Turn.GIVE_UP
    return Turn.RETRY if now >= ended_at + _PATIENCE * 2**job.fruitless_generations else Turn.WAIT


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
        progressed_generation=session.scalar(_PROGRESSED, {"job": id}) or 0,
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


def succeed(session: Session, job: FineTune, adapter: NewAdapter, trained_tokens: int) -> bool:
    """The end of the job and its adapter, together. False when it had ended before: then nothing is served."""
    if not _change(session, job.id, state="succeeded", trained_tokens=trained_tokens, finished_at=clock.now()):
        return False
    metering.insert_usage(session, job.id, clock.now(), is_cancelled=False)
    session.execute(
        insert(Adapter).values(
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
    )
    return True


def fail(session: Session, id: UUID, code: str, message: str, param: str | None = None) -> None:
    """The end, with the reason that the tenant reads. What it held of budgets is free again."""
    error = {"code": code, "message": message, "param": param}
    if _change(session, id, state="failed", error=error, finished_at=clock.now()):
        metering.close_source(session, id, clock.now())


def give_up(session: Session, id: UUID) -> None:
    """The end after too many attempts without one."""
    message = (
        f"Training was interrupted {MOST_FRUITLESS} times in a row without a step forward, for reasons that are ours."
        " It is not billed."
    )
    fail(session, id, "server_error", message)


def cancel(session: Session, id: UUID) -> None:
    """The end that was asked for. What was trained until then is billed."""
    if _change(session, id, state="cancelled", finished_at=clock.now()):
        tokens = metering.insert_usage(session, id, clock.now(), is_cancelled=True)
        session.execute(update(FineTuningJob).where(FineTuningJob.id == id).values(trained_tokens=tokens))


def add_event(session: Session, job: FineTune, event: ProgressEvent) -> None:
    """Copy one event of the object store. Copying it again changes nothing."""
    data = dict(event.data)
    if event.type == "metrics":
        data["generation"] = job.generation  # which has thereby made progress
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
            data=data,
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
def exclusive(database: Engine, id: UUID) -> Iterator[Callable[[], None]]:
    """Nobody else works on the job inside this block, whatever Dagster believes. AnotherRunWorks when somebody does.

    What it yields is to be called now and then: HoldLost when the database no longer holds the job for this block.
    """
    with database.connect() as connection:
        is_held: bool = connection.execute(_LOCK, {"job": f"fine-tune {id}"}).scalar_one()
        connection.commit()  # the lock is the session's: no transaction stays open for hours
        if not is_held:
            raise AnotherRunWorks("Another run works on this fine-tune.")

        def check() -> None:
            try:
                connection.execute(text("select 1"))
                connection.commit()
            except DBAPIError as error:
                raise HoldLost("The database connection that held this fine-tune is lost.") from error

        try:
            yield check
        finally:
            connection.invalidate()  # and ends with it


def is_worked_on(session: Session, id: UUID) -> bool:
    """Whether some process holds the job now."""
    return bool(session.scalar(_IS_LOCKED, {"job": f"fine-tune {id}"}))


# Generations grow with the events' numbers, so the newest metric has the newest one.
_PROGRESSED = (
    select(FineTuningEvent.data["generation"].as_integer())
    .where(FineTuningEvent.job_id == bindparam("job"), FineTuningEvent.type == "metrics")
    .order_by(FineTuningEvent.seq.desc())
    .limit(1)
)
_LOCK = text("select pg_try_advisory_lock(hashtextextended(:job, 0))")
_IS_LOCKED = text(
    "select exists (select from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
    " and database = (select oid from pg_database where datname = current_database())"
    " and (classid::bigint << 32 | objid::bigint) = hashtextextended(:job, 0))"
)


def _input_file(session: Session, id: UUID) -> InputFile:
    key, sha256 = session.execute(select(File.object_key, File.sha256).where(File.id == id)).tuples().one()
    return InputFile(key, sha256)


def _change(session: Session, id: UUID, **values: Any) -> bool:
    """Whether the job was open, and so was changed."""
    changed = session.scalar(
        update(FineTuningJob)
        .where(FineTuningJob.id == id, FineTuningJob.state.in_(OPEN_STATES))
        .values(**values)
        .returning(FineTuningJob.id)
        .execution_options(synchronize_session=False)
    )
    return changed is not None
