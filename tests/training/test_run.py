"""A run from a job's row to an adapter's row, on real PostgreSQL and S3, with a tiny base model."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, insert, select, update

from local import process_tree
from local.demo.orders import as_jsonl, training_examples
from studio import clock, ids, weights
from studio.db.jobs import Adapter, File, FineTuningEvent, FineTuningJob
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from studio.settings import Settings
from studio.tenants import CreatedKey
from studio.weights import Manifest, describe
from tests.local.eventually import eventually
from tests.training.conftest import BASE, put
from training import jobs
from training.process import trainer_environment
from training.run import Outcome, TrainerDied, Workshop, run_fine_tune

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SECONDS = 300.0  # 10 s each on two quiet cores
GOOD = as_jsonl(training_examples(12, seed=1))


@dataclass
class Desk:
    """A tenant with a key, and the workshop that works on its jobs."""

    tenant_id: UUID
    key_id: UUID
    shop: Workshop

    def job(self, data: bytes = GOOD, **hyperparameters: Any) -> UUID:
        """What the gateway writes for a new job."""
        stored, file_id, job_id = put(self.shop.store, data), ids.uuid7(), ids.uuid7()
        file = {"tenant_id": self.tenant_id, "filename": "orders.jsonl", "purpose": "fine-tune", "size_bytes": 1}
        job = {"tenant_id": self.tenant_id, "api_key_id": self.key_id, "variant_id": BASE, "state": "validating_files"}
        with unit_of_work(self.shop.database) as session:
            session.execute(insert(File).values(id=file_id, object_key=stored.key, sha256=stored.sha256, **file))
            session.execute(
                insert(FineTuningJob).values(
                    id=job_id,
                    training_file_id=file_id,
                    seed=7,
                    suffix="orders",
                    hyperparameters={"n_epochs": 1, "batch_size": 2, **hyperparameters},
                    **job,
                )
            )
        return job_id

    def row(self, job_id: UUID) -> FineTuningJob:
        """The job now."""
        with unit_of_work(self.shop.database) as session:
            return session.scalars(select(FineTuningJob).where(FineTuningJob.id == job_id)).one()

    def events(self, job_id: UUID) -> list[FineTuningEvent]:
        """As the tenant sees them, oldest first."""
        query = select(FineTuningEvent).where(FineTuningEvent.job_id == job_id).order_by(FineTuningEvent.seq)
        with unit_of_work(self.shop.database) as session:
            return list(session.scalars(query))

    def adapters(self, job_id: UUID) -> list[Adapter]:
        """What is served."""
        with unit_of_work(self.shop.database) as session:
            return list(session.scalars(select(Adapter).where(Adapter.job_id == job_id)))


@pytest.fixture
def desk(
    tmp_path: Path,
    worker: Engine,
    tenant: UUID,
    api_key: CreatedKey,
    tiny_model: Path,
    store: ObjectStore,
    s3_settings: Settings,
) -> Desk:
    """The catalog's chat model, with the tiny model's weights behind it."""
    manifest = Manifest(BASE, "Apache-2.0", describe(tiny_model))
    for file in manifest.files:
        store.put(Bucket.MODELZOO, manifest.object_key(file), (tiny_model / file.path).read_bytes())
    weights.publish(store, manifest)
    environment = trainer_environment(s3_settings)
    return Desk(tenant, api_key.id, Workshop(worker, store, s3_settings.engine_python, environment, tmp_path))


def test_a_job_becomes_an_adapter_that_its_tenant_may_call(desk: Desk) -> None:
    job_id, losses = desk.job(), []
    outcome = run_fine_tune(desk.shop, job_id, lambda metrics: losses.append(metrics["train_loss"]))
    assert outcome.ending == "succeeded"
    job, (adapter,), events = desk.row(job_id), desk.adapters(job_id), desk.events(job_id)
    assert (job.state, job.trained_tokens is not None, job.error) == ("succeeded", True, None)
    assert job.hyperparameters == {"n_epochs": 1, "batch_size": 2, "learning_rate_multiplier": 1.0}
    assert adapter.name == f"ft:{BASE}:acme:orders:{job_id.hex[-12:]}"
    assert adapter.engine_name == f"{adapter.id.hex}-{adapter.sha256[:16]}"
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.data["train_loss"] for event in events if event.type == "metrics"] == losses
    assert len(losses) == 6
    assert run_fine_tune(desk.shop, job_id) == Outcome("already over", "it has succeeded")


def test_a_broken_line_ends_the_job_with_its_number_and_starts_nothing(desk: Desk) -> None:
    lines = GOOD.splitlines(keepends=True)
    job_id = desk.job(b"".join([*lines[:4], b'{"messages": []}\n', *lines[4:]]))
    assert run_fine_tune(desk.shop, job_id).ending == "failed"
    job = desk.row(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "invalid_training_file"
    assert job.error["param"] == "training_file"
    assert "line 5: " in job.error["message"]
    assert desk.events(job_id)[-1].level == "error"
    assert desk.adapters(job_id) == []


def test_an_empty_data_set_and_a_deleted_file_end_the_job(desk: Desk) -> None:
    empty, gone = desk.job(b"\n"), desk.job(GOOD + b"\n\n")
    desk.shop.store.client.delete_object(
        Bucket=desk.shop.store.name(Bucket.FILES), Key=put(desk.shop.store, GOOD + b"\n\n").key
    )
    assert "has 0 examples" in (run_fine_tune(desk.shop, empty).reason or "")
    assert "was deleted" in (run_fine_tune(desk.shop, gone).reason or "")


def test_a_training_that_diverges_is_not_served(desk: Desk) -> None:
    job_id = desk.job(learning_rate_multiplier=1e12)
    outcome = run_fine_tune(desk.shop, job_id)
    assert (outcome.ending, outcome.is_adapter_refused) == ("failed", True)
    assert desk.row(job_id).error is not None
    assert desk.adapters(job_id) == []


def test_cancelling_ends_the_trainer(desk: Desk) -> None:
    job_id, ended = desk.job(n_epochs=50), []
    run = threading.Thread(target=lambda: ended.append(run_fine_tune(desk.shop, job_id)))
    run.start()
    eventually(lambda: any(event.type == "metrics" for event in desk.events(job_id)), "it trains", SECONDS)
    with unit_of_work(desk.shop.database) as session:
        session.execute(update(FineTuningJob).where(FineTuningJob.id == job_id).values(cancel_requested_at=clock.now()))
    run.join(30)
    assert ended == [Outcome("cancelled")]
    assert desk.row(job_id).state == "cancelled"
    assert not _trainers()


def test_a_killed_trainer_leaves_the_job_to_the_next_run(desk: Desk) -> None:
    job_id = desk.job(n_epochs=4)
    problems: list[BaseException] = []

    def attempt() -> None:
        try:
            run_fine_tune(desk.shop, job_id)
        except TrainerDied as died:
            problems.append(died)

    run = threading.Thread(target=attempt)
    run.start()
    eventually(lambda: sum(e.type == "metrics" for e in desk.events(job_id)) >= 8, "step 8 is reported", SECONDS)
    (trainer,) = _trainers()
    with pytest.raises(jobs.AnotherRunWorks):
        run_fine_tune(desk.shop, job_id)
    os.kill(trainer, signal.SIGKILL)
    run.join(30)
    assert [type(problem) for problem in problems] == [TrainerDied]
    assert desk.row(job_id).state == "running"

    assert run_fine_tune(desk.shop, job_id).ending == "succeeded"
    steps = [event.data["step"] for event in desk.events(job_id) if event.type == "metrics"]
    assert steps == list(range(1, 25)), "each step is told once"
    assert any("goes on from step 6" in event.message for event in desk.events(job_id))


def _trainers() -> list[int]:
    return [
        pid
        for pid in process_tree.descendants(os.getpid())
        if b"training.trainer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
