"""A run beside a trainer that misbehaves: what becomes of the job, its objects and its files."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import Engine, text, update

from assets.fine_tunes import FineTuneConfig, fine_tunes
from studio import clock, ids
from studio.db.jobs import FineTuningJob
from studio.db.sessions import unit_of_work
from studio.objects import ObjectStore
from studio.settings import Settings
from studio.tenants import CreatedKey
from tests.local.eventually import eventually
from tests.training.desk import GOOD, Desk, desk_with_weights_nobody_reads, with_trainer
from tests.training.stand_in import REFUSAL
from training import jobs
from training.jobs import HoldLost, NewAdapter
from training.run import Outcome, Workshop, run_fine_tune
from training.trainers import TrainerDied


@pytest.fixture
def desk(
    tmp_path: Path, worker: Engine, tenant: UUID, api_key: CreatedKey, store: ObjectStore, s3_settings: Settings
) -> Desk:
    """A tenant with a shop whose trainers are stand-ins."""
    return desk_with_weights_nobody_reads(tenant, api_key.id, worker, store, s3_settings, tmp_path)


def in_background(shop: Workshop, job_id: UUID) -> Callable[[], object]:
    """Start the run; call what is returned for how it ended."""
    ended: list[object] = []

    def work() -> None:
        try:
            ended.append(run_fine_tune(shop, job_id))
        except HoldLost as lost:
            ended.append(type(lost))

    run = threading.Thread(target=work)
    run.start()

    def join() -> object:
        run.join(60)
        return ended.pop()

    return join


def test_what_the_trainer_refuses_ends_the_job_though_its_event_was_copied_before(desk: Desk, tmp_path: Path) -> None:
    job_id = desk.job()
    desk.prefix(job_id).put("checkpoints/000001/optimizer.pt", b"x")
    outcome = run_fine_tune(with_trainer(desk, tmp_path, "refuses"), job_id)
    assert outcome == Outcome("failed", REFUSAL, "invalid_training_file")
    job = desk.row(job_id)
    assert (job.state, job.error) == (
        "failed",
        {"code": "invalid_training_file", "message": REFUSAL, "param": "validation_file"},
    )
    assert [event.message for event in desk.events(job_id) if event.level == "error"] == [REFUSAL], "said once"
    assert desk.left_in_store(job_id) == {"events"}


def test_a_step_is_progress_once_and_may_have_no_loss(desk: Desk, tmp_path: Path) -> None:
    job_id, shop = desk.job(), with_trainer(desk, tmp_path, "dies after one step")
    seen: list[Mapping[str, Any]] = []
    fruitless = []
    for _ in range(2):
        with pytest.raises(TrainerDied):
            run_fine_tune(shop, job_id, seen.append)
        with unit_of_work(shop.database) as session:
            fruitless.append(jobs.fine_tune(session, job_id).fruitless_generations)
            jobs.retry(session, job_id)
    assert fruitless == [0, 1]
    assert seen == [{"step": 1, "total_steps": 2, "train_loss": None}]
    (step,) = [event for event in desk.events(job_id) if event.type == "metrics"]
    assert step.data == {"step": 1, "total_steps": 2, "train_loss": None, "generation": 1}


def test_a_run_that_has_lost_its_hold_ends_and_takes_its_trainer_along(desk: Desk, tmp_path: Path) -> None:
    job_id = desk.job()
    ended = in_background(with_trainer(desk, tmp_path, "hangs"), job_id)
    eventually(lambda: bool(_left_by_trainer(desk, job_id)), "it works", 60)
    with unit_of_work(desk.shop.database) as session:
        session.execute(text("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"))
    assert ended() is HoldLost
    assert desk.row(job_id).state == "running", "another run goes on"
    assert not any(path.exists() for path in _left_by_trainer(desk, job_id))


def test_what_killed_processes_left_on_this_machine_is_removed(desk: Desk, tmp_path: Path) -> None:
    job_id = desk.job()
    of_a_killed_run = Path(tempfile.mkdtemp(prefix=f"studio-fine-tune-{job_id.hex}-"))
    (of_a_killed_run / "dataset.jsonl").write_bytes(GOOD)
    ended = in_background(with_trainer(desk, tmp_path, "hangs"), job_id)
    eventually(lambda: bool(_left_by_trainer(desk, job_id)), "it works", 60)
    (left,) = _left_by_trainer(desk, job_id)
    assert left.exists()
    assert not of_a_killed_run.exists()
    with unit_of_work(desk.shop.database) as session:
        session.execute(update(FineTuningJob).values(cancel_requested_at=clock.now()))
    assert ended() == Outcome("cancelled")
    assert not left.exists()


def test_a_job_that_has_ended_gets_no_adapter(desk: Desk) -> None:
    job_id = desk.job()
    adapter = NewAdapter(ids.uuid7(), "ft:x", "x", "x/", "0" * 64, 8, 1)
    with unit_of_work(desk.shop.database) as session:
        job = jobs.fine_tune(session, job_id)
        jobs.cancel(session, job_id)
        assert not jobs.succeed(session, job, adapter, 1)
    assert desk.row(job_id).state == "cancelled"
    assert desk.adapters(job_id) == []


def test_dagster_is_told_the_code_of_a_mistake_and_not_the_words_of_a_tenant(desk: Desk) -> None:
    secret = b'{"messages": [], "secret": "of the tenant"}\n'
    config = FineTuneConfig(job_id=ids.to_wire(ids.FINE_TUNING_JOB, desk.job(GOOD + secret)))
    result = dg.materialize(
        [fine_tunes], run_config=dg.RunConfig({"fine_tunes": config}), resources={"workshop": desk.shop}
    )
    (check,) = result.get_asset_check_evaluations()
    (adapters,) = result.asset_materializations_for_node("fine_tunes")
    assert check.passed
    assert check.metadata["adapter"].value == "none", "nothing was there to be judged"
    assert adapters.metadata["ending"].value == "failed"
    assert adapters.metadata["reason"].value == "invalid_training_file"
    assert not [found for found in (*check.metadata.values(), *adapters.metadata.values()) if "line 13" in str(found)]


def _left_by_trainer(desk: Desk, job_id: UUID) -> list[Path]:
    """The folder that the stand-in made and told of."""
    return [Path(event.message) for event in desk.events(job_id) if event.message.startswith("/")]
