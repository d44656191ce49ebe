"""What the probed canary owns, so that there is something to be kept from the other.

It is ended work only: nothing runs for it. A batch, a fine-tune and a fine-tuned model are made once and kept. The file
is uploaded, and the model shown by its name, for a run each; a response is kept as long as the service keeps one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Engine, Select, exists, select, update
from sqlalchemy.orm import Session

from serving.isolation.canaries import Canary
from serving.isolation.front_door import FrontDoor
from studio import clock, ids
from studio.db.catalog import ModelVariant
from studio.db.fleet import Replica
from studio.db.jobs import Adapter, Batch, FineTuningJob
from studio.db.responses import StoredResponse
from studio.db.sessions import unit_of_work

_LINE = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"none","messages":[]}}\n'


@dataclass(frozen=True, slots=True)
class Estate:
    """Names as the API has them."""

    file: str
    batch: str
    fine_tune: str
    model: str
    response: str | None  # None: no chat model was ever warm when the probe ran


@contextmanager
def estate(worker: Engine, owner: Canary, door: FrontDoor, warm_model: str | None) -> Iterator[Estate]:
    """The owner's things. The file and the fine-tuned model are gone after the block."""
    file = door.upload("isolation.jsonl", _LINE)
    file_id = ids.from_wire(ids.FILE, file)
    try:
        with unit_of_work(worker) as session:
            batch = _batch(session, owner, file_id)
            job = _fine_tune(session, owner, file_id)
            model = _model(session, owner, job)
        response = _response(worker, owner, door, warm_model)
        yield Estate(file, ids.to_wire(ids.BATCH, batch), ids.to_wire(ids.FINE_TUNING_JOB, job), model, response)
    finally:
        with unit_of_work(worker) as session:
            hidden = update(Adapter).where(Adapter.tenant_id == owner.tenant_id)
            session.execute(hidden.values(deleted_at=clock.now()))
        door.status("DELETE", f"/v1/files/{file}")


def _batch(session: Session, owner: Canary, file_id: UUID) -> UUID:
    found = session.scalar(select(Batch.id).where(Batch.tenant_id == owner.tenant_id).limit(1))
    if found is not None:
        return found
    now = clock.now()
    row = Batch(
        id=ids.uuid7(), tenant_id=owner.tenant_id, api_key_id=owner.key_id, endpoint="/v1/chat/completions",
        completion_window="24h", input_file_id=file_id, state="cancelled", created_at=now,
        expires_at=now + timedelta(hours=24), cancelling_at=now, cancelled_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _fine_tune(session: Session, owner: Canary, file_id: UUID) -> UUID:
    found = session.scalar(select(FineTuningJob.id).where(FineTuningJob.tenant_id == owner.tenant_id).limit(1))
    if found is not None:
        return found
    row = FineTuningJob(
        id=ids.uuid7(), tenant_id=owner.tenant_id, api_key_id=owner.key_id, variant_id=_idle_variant(session),
        training_file_id=file_id, seed=1, hyperparameters={}, state="cancelled", created_at=clock.now(),
        cancel_requested_at=clock.now(), finished_at=clock.now(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _model(session: Session, owner: Canary, job: UUID) -> str:
    """The name of a fine-tuned model that has no weights: it can be asked for and never answers."""
    variant_id = _idle_variant(session)
    shown = update(Adapter).where(Adapter.job_id == job).values(deleted_at=None, variant_id=variant_id)
    found = session.scalar(shown.returning(Adapter.name))
    if found is not None:
        return found
    name = f"ft:{variant_id}:{owner.slug}::{job.hex[-12:]}"
    session.add(
        Adapter(
            id=ids.uuid7(), tenant_id=owner.tenant_id, job_id=job, variant_id=variant_id, name=name,
            engine_name=f"canary-{job.hex}", object_prefix=f"{ids.to_wire(ids.TENANT, owner.tenant_id)}/none/",
            sha256="0" * 64, rank=1, size_bytes=0,
        )
    )  # fmt: skip
    return name


def _idle_variant(session: Session) -> str:
    """One that no engine runs, if there is one: a node agent would look for the weights in vain."""
    runs = exists().where(Replica.variant_id == ModelVariant.id, Replica.state.in_(("starting", "ready")))
    query: Select[str] = select(ModelVariant.id).order_by(runs, ModelVariant.id).limit(1)
    return session.scalars(query).one()


def _response(worker: Engine, owner: Canary, door: FrontDoor, warm_model: str | None) -> str | None:
    with unit_of_work(worker) as session:
        kept = session.scalar(
            select(StoredResponse.id)
            .where(StoredResponse.tenant_id == owner.tenant_id, StoredResponse.status.in_(("completed", "incomplete")))
            .where(StoredResponse.expires_at > clock.now() + timedelta(hours=1))
            .limit(1)
        )
    if kept is not None:
        return ids.to_wire(ids.RESPONSE, kept)
    if warm_model is None:
        return None
    answer = door.ask("/v1/responses", {"model": warm_model, "input": "Say hello.", "max_output_tokens": 16})
    return None if answer is None else answer["id"]
