"""`/v1/fine_tuning/jobs`: OpenAI's fine-tuning, for supervised training. A route writes or reads rows; Dagster does the
work. The adapter appears in `/v1/models` of its tenant and is called like any other model.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Select, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from serving import routing
from serving.files import records
from serving.keys import KeyRecord, require_model
from serving.routes.caller import InferenceCaller, Parts
from serving.routes.quotes import quote_for
from studio import budgets, clock, ids, training_usage
from studio.db.catalog import Quote
from studio.db.jobs import Adapter, FineTuningEvent, FineTuningJob
from studio.db.sessions import tenant_scope
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.fine_tuning.hyperparameters import MOST_EPOCHS
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])

EVENT = "ftevent-"
_CANCELLABLE = ("validating_files", "queued", "running")

Auto = Literal["auto"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Hyperparameters(_Request):
    """What may be chosen; "auto" is decided when the data set is known."""

    n_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | Auto | None = None
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto | None = None
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=100)] | Auto | None = None

    def asked(self) -> dict[str, Any]:
        """As it is stored."""
        return {name: value or "auto" for name, value in self.model_dump().items()}


class Supervised(_Request):
    """The settings of supervised training."""

    hyperparameters: Hyperparameters | None = None


class Method(_Request):
    """How to train. Only supervised training is offered."""

    type: Literal["supervised"]
    supervised: Supervised | None = None


class CreateJob(_Request):
    """OpenAI's request."""

    model: Annotated[str, Field(min_length=1)]
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    hyperparameters: Hyperparameters | None = None  # OpenAI's older place for them
    method: Method | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None = None
    quote_id: str | None = None  # of `/v1/quotes`, for the same file, model and epochs: its price holds, and its limit

    def asked(self) -> dict[str, Any]:
        """The hyperparameters, wherever they stand."""
        if self.method is not None and self.method.supervised is not None:
            return (self.method.supervised.hyperparameters or Hyperparameters()).asked()
        return (self.hyperparameters or Hyperparameters()).asked()


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class Job(BaseModel):
    """OpenAI's object."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    usage_request_id: str  # of the receipt of what was trained (`/v1/receipts/...`), once the job has ended
    error: JobError | None
    seed: int
    estimated_finish: int | None
    integrations: list[str]
    metadata: dict[str, str] | None
    quote_id: str | None


class JobList(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"]
    data: list[Job]
    has_more: bool


class Event(BaseModel):
    """OpenAI's object."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class EventList(BaseModel):
    """A page of events, newest first."""

    object: Literal["list"]
    data: list[Event]
    has_more: bool


@router.post("")
def create_job(body: CreateJob, request: Request, parts: Parts, caller: InferenceCaller) -> Job:
    """Ask for a fine-tune. Its files are validated line by line before anything is trained."""
    require_model(caller, body.model)
    target, now = routing.tunable_target(parts.view.fleet, body.model, caller.tenant_id), clock.now()
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        budgets.require_free(session, caller.tenant_id, caller.id)

        def usable(text: str, param: str) -> UUID:
            return _usable_file(session, caller.tenant_id, text, param)

        training_file_id, validation = usable(body.training_file, "training_file"), body.validation_file
        asked, quote = body.asked(), None
        if body.quote_id is not None:
            quote = quote_for(session, body.quote_id, training_file_id, training_usage.ENDPOINT, now)
            asked["n_epochs"] = _quoted_epochs(quote, target.variant.id, asked["n_epochs"])
        job = FineTuningJob(
            id=ids.uuid7(),
            tenant_id=caller.tenant_id,
            api_key_id=caller.id,
            variant_id=target.variant.id,
            training_file_id=training_file_id,
            validation_file_id=None if validation is None else usable(validation, "validation_file"),
            suffix=body.suffix,
            seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
            hyperparameters=asked,
            metadata_=body.metadata,
            state="validating_files",
            created_at=now,
            quote_id=quote and quote.id,
        )
        session.add(job)
        try:
            session.flush()
        except IntegrityError as error:
            raise Conflict(
                f"The quote {body.quote_id} is used by another fine-tune already: ask for a new one."
            ) from error
        audit_own(session, caller.actor, "fine_tune.create", ids.to_wire(ids.FINE_TUNING_JOB, job.id))
        return _job(job, None, caller)


@router.get("")
def list_jobs(
    request: Request,
    caller: InferenceCaller,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobList:
    """The tenant's jobs, newest first; `after` is the last id of the page before."""
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        query = _jobs(caller.tenant_id).order_by(FineTuningJob.id.desc()).limit(limit + 1)
        if after is not None:
            query = query.where(FineTuningJob.id < _id(after))
        rows = session.execute(query).tuples().all()
    page = [_job(job, name, caller) for job, name in rows[:limit]]
    return JobList(object="list", data=page, has_more=len(rows) > limit)


@router.get("/{id}")
def retrieve_job(id: str, request: Request, caller: InferenceCaller) -> Job:
    """One job."""
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        return _job(*_found(session, id, caller), caller)


@router.post("/{id}/cancel")
def cancel_job(id: str, request: Request, caller: InferenceCaller) -> Job:
    """Ask for its end. The trainer is stopped within seconds; the state then becomes `cancelled`."""
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        job, name = _found(session, id, caller)
        if job.state not in _CANCELLABLE:
            raise Conflict(f"The job is {job.state}; it can no longer be cancelled.")
        session.execute(
            update(FineTuningJob)
            .where(FineTuningJob.id == job.id, FineTuningJob.cancel_requested_at.is_(None))
            .values(cancel_requested_at=clock.now())
        )
        audit_own(session, caller.actor, "fine_tune.cancel", id)
        return _job(job, name, caller)


@router.get("/{id}/events")
def list_events(
    id: str,
    request: Request,
    caller: InferenceCaller,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> EventList:
    """What happened, newest first. Metrics carry `step`, `train_loss` and `train_mean_token_accuracy`."""
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        job, _ = _found(session, id, caller)
        query = select(FineTuningEvent).where(FineTuningEvent.job_id == job.id)
        if after is not None:
            query = query.where(FineTuningEvent.seq < _event_seq(after))
        events = session.scalars(query.order_by(FineTuningEvent.seq.desc()).limit(limit + 1)).all()
    return EventList(object="list", data=[_event(event) for event in events[:limit]], has_more=len(events) > limit)


def _jobs(tenant_id: UUID) -> Select[FineTuningJob, str | None]:
    name: ColumnElement[str | None] = (
        select(Adapter.name).where(Adapter.job_id == FineTuningJob.id).correlate(FineTuningJob).scalar_subquery()
    )
    return select(FineTuningJob, name).where(FineTuningJob.tenant_id == tenant_id)


def _found(session: Session, text: str, caller: KeyRecord) -> tuple[FineTuningJob, str | None]:
    row = session.execute(_jobs(caller.tenant_id).where(FineTuningJob.id == _id(text))).tuples().one_or_none()
    if row is None:
        raise NotFound(f"There is no fine-tuning job `{text}`.")
    return row


def _id(text: str) -> UUID:
    try:
        return ids.from_wire(ids.FINE_TUNING_JOB, text)
    except ValueError as error:
        raise NotFound(f"There is no fine-tuning job `{text}`.") from error


def _event_seq(text: str) -> int:
    number = text.removeprefix(EVENT).rpartition("-")[2]
    if not number.isdecimal():
        raise InvalidRequest(f"{text!r} is no id of an event.", param="after")
    return int(number)


def _usable_file(session: Session, tenant_id: UUID, text: str, param: str) -> UUID:
    """The tenant's own file for training. Whatever is wrong with it, the answer is OpenAI's."""
    refusal = InvalidRequest(
        f"`{text}` is no file of yours with the purpose `fine-tune`.", code="invalid_file", param=param
    )
    try:
        file = records.find_to_use(session, tenant_id, text, clock.now())
    except NotFound as error:
        raise refusal from error
    if file.purpose != "fine-tune":
        raise refusal
    return file.id


def _quoted_epochs(quote: Quote, variant_id: str, asked: int | str) -> int:
    """How often a quoted job reads its examples: as was quoted. InvalidRequest where something else is asked for."""
    n_epochs: int = quote.document["n_epochs"]
    if quote.variant_id != variant_id:
        raise InvalidRequest(f"The quote is for the model `{quote.variant_id}`.", param="quote_id")
    if asked not in ("auto", n_epochs):
        raise InvalidRequest(f"The quote is for {n_epochs} epochs, and {asked} are asked for.", param="quote_id")
    return n_epochs


def _job(job: FineTuningJob, fine_tuned_model: str | None, caller: KeyRecord) -> Job:
    return Job(
        id=ids.to_wire(ids.FINE_TUNING_JOB, job.id),
        object="fine_tuning.job",
        created_at=_seconds(job.created_at),
        finished_at=job.finished_at and _seconds(job.finished_at),
        model=job.variant_id,
        fine_tuned_model=fine_tuned_model,
        organization_id=caller.tenant_slug,
        status=job.state,
        hyperparameters=job.hyperparameters,
        method={"type": "supervised", "supervised": {"hyperparameters": job.hyperparameters}},
        training_file=ids.to_wire(ids.FILE, job.training_file_id),
        validation_file=job.validation_file_id and ids.to_wire(ids.FILE, job.validation_file_id),
        result_files=[],
        trained_tokens=job.trained_tokens,
        usage_request_id=f"req_{training_usage.event_id(job.id, job.created_at).hex}",
        error=_error(job.error),
        seed=job.seed,
        estimated_finish=None,
        integrations=[],
        metadata=job.metadata_,
        quote_id=job.quote_id and ids.to_wire(ids.QUOTE, job.quote_id),
    )


def _error(error: Mapping[str, Any] | None) -> JobError | None:
    return None if error is None else JobError.model_validate(error)


def _event(event: FineTuningEvent) -> Event:
    return Event.model_validate(
        {
            "id": f"{EVENT}{event.job_id.hex}-{event.seq}",
            "object": "fine_tuning.job.event",
            "created_at": _seconds(event.at),
            "level": event.level,
            "message": event.message,
            "type": event.type,
            "data": event.data,
        }
    )


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
