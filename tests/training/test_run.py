"""A run from a job's row to an adapter's row, on real PostgreSQL and S3, with a tiny base model."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, update

from local import process_tree
from studio import clock
from studio.db.jobs import FineTuningJob
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from studio.settings import Settings
from studio.tenants import CreatedKey
from tests.local.eventually import eventually
from tests.training.conftest import BASE, put
from tests.training.desk import GOOD, Desk, push_weights
from training import jobs
from training.process import LocalTrainers, trainer_environment
from training.run import Outcome, Workshop, run_fine_tune
from training.trainers import TrainerDied

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SECONDS = 300.0  # 10 s each on two quiet cores


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
    push_weights(store, tiny_model)
    trainers = LocalTrainers(store, s3_settings.engine_python, trainer_environment(s3_settings), tmp_path)
    return Desk(tenant, api_key.id, Workshop(worker, store, trainers))


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
    assert "adapter" in desk.left_in_store(job_id)
    assert "checkpoints" not in desk.left_in_store(job_id), "nobody will resume it"
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
    job_id = desk.job(validation=GOOD, learning_rate_multiplier=1e12)  # whose losses need not be numbers
    outcome = run_fine_tune(desk.shop, job_id)
    assert (outcome.ending, outcome.is_adapter_refused) == ("failed", True)
    assert desk.row(job_id).error is not None
    assert desk.adapters(job_id) == []


def test_a_validation_file_with_nothing_to_learn_is_refused_under_its_own_name(desk: Desk) -> None:
    messages = [{"role": "user", "content": "so " * 2000}, {"role": "assistant", "content": "no"}]
    too_long = json.dumps({"messages": messages}).encode() + b"\n"
    job_id = desk.job(validation=too_long * 10)
    assert run_fine_tune(desk.shop, job_id).code == "invalid_training_file"
    error = desk.row(job_id).error
    assert error is not None
    assert (error["param"], error["message"]) == (
        "validation_file",
        "No example has anything to learn within 1024 tokens.",
    )


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
    resumed = [event.message for event in desk.events(job_id) if "goes on from step" in event.message]
    assert resumed in [[f"Training goes on from step {step}"] for step in (6, 12, 18)]  # an epoch each


def _trainers() -> list[int]:
    return [pid for pid in process_tree.descendants(os.getpid()) if _is_trainer(pid)]


def _is_trainer(pid: int) -> bool:
    try:
        return b"training.trainer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False
