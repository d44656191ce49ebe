"""The sensor of fine-tunes, over the real tables. What a run does is tests/training/test_run.py."""

from __future__ import annotations

from uuid import UUID

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id
from sqlalchemy import Engine, insert, select, update

import orchestration.fine_tunes
from studio import clock, ids
from studio.db.jobs import File, FineTuningJob
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from tests.billing.books import CHAT, Books
from tests.orchestration.location import Location
from training import jobs

SENSOR, JOB = "fine_tunes", "fine_tune"


@pytest.fixture
def job_id(books: Books) -> UUID:
    """A job that was just created."""
    tenant_id, file_id, job_id = books.tenant(), ids.uuid7(), ids.uuid7()
    with books.as_role("worker") as session:
        session.execute(
            insert(File).values(
                id=file_id,
                tenant_id=tenant_id,
                filename="f",
                purpose="fine-tune",
                size_bytes=1,
                sha256="",
                object_key="",
            )
        )
        session.execute(
            insert(FineTuningJob).values(
                id=job_id,
                tenant_id=tenant_id,
                api_key_id=ids.uuid7(),
                variant_id=CHAT,
                training_file_id=file_id,
                seed=1,
                hyperparameters={},
                state="validating_files",
            )
        )
    return job_id


def row(books: Books, job_id: UUID) -> FineTuningJob:
    with books.as_role("worker") as session:
        return session.scalars(select(FineTuningJob).where(FineTuningJob.id == job_id)).one()


def launch(location: Location, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """Dagster has taken the request, and this is what it believes of the run."""
    assert request.run_key is not None
    run = dg.DagsterRun(JOB, make_new_run_id(), status=status, tags=dict(request.tags))
    return location.instance.add_run(run)


def test_a_job_gets_one_run(location: Location, job_id: UUID) -> None:
    (request,) = location.asks(SENSOR)
    id = ids.to_wire(ids.FINE_TUNING_JOB, job_id)
    assert request.run_key == f"{id}#1"
    assert request.run_config["ops"]["fine_tunes"]["config"] == {"job_id": id}
    launch(location, request, dg.DagsterRunStatus.STARTING)
    assert location.asks(SENSOR) == []


def test_a_job_whose_run_failed_is_tried_twice_more_and_then_given_up(
    location: Location, books: Books, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_PATIENCE", jobs._PATIENCE * 0)
    for generation in (1, 2, 3):
        (request,) = location.asks(SENSOR)
        assert request.run_key is not None
        assert request.run_key.endswith(f"#{generation}")
        launch(location, request, dg.DagsterRunStatus.FAILURE)
    assert location.asks(SENSOR) == []
    job = row(books, job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert "interrupted 3 times" in job.error["message"]


def test_a_job_whose_run_failed_a_moment_ago_waits(location: Location, job_id: UUID) -> None:
    (request,) = location.asks(SENSOR)
    launch(location, request, dg.DagsterRunStatus.FAILURE)
    assert location.asks(SENSOR) == []


def test_a_run_that_dagster_believes_in_is_gone_when_it_does_not_hold_its_job(
    location: Location, books: Books, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,) = location.asks(SENSOR)
    run = launch(location, request, dg.DagsterRunStatus.STARTING)
    begun = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, run.job_name)
    location.instance.report_dagster_event(begun, run.run_id)
    assert location.asks(SENSOR) == [], "it may still be on its way to the database"

    monkeypatch.setattr(orchestration.fine_tunes, "_BEGINNING", orchestration.fine_tunes._BEGINNING * 0)
    monkeypatch.setattr(jobs, "_PATIENCE", jobs._PATIENCE * 0)
    worker = books.engines["worker"]
    with jobs.exclusive(worker, job_id):
        assert location.asks(SENSOR) == [], "it works"
    (again,) = location.asks(SENSOR)
    assert again.run_key is not None
    assert again.run_key.endswith("#2")
    believed = location.instance.get_run_by_id(run.run_id)
    assert believed is not None
    assert believed.status == dg.DagsterRunStatus.FAILURE, "its slot is free"


def test_cancelled_before_it_began_it_ends_at_once(location: Location, books: Books, job_id: UUID) -> None:
    with books.as_role("worker") as session:
        session.execute(update(FineTuningJob).values(cancel_requested_at=clock.now()))
    assert location.asks(SENSOR) == []
    assert row(books, job_id).state == "cancelled"


def test_cancelled_while_its_run_waits_behind_others_it_ends_at_once(
    location: Location, books: Books, objects: ObjectStore, job_id: UUID
) -> None:
    (request,) = location.asks(SENSOR)
    launch(location, request, dg.DagsterRunStatus.NOT_STARTED)
    checkpoint = f"{row(books, job_id).tenant_id.hex}/{job_id.hex}/checkpoints/000001/optimizer.pt"
    objects.put(Bucket.ADAPTERS, checkpoint, b"of an earlier run")
    with books.as_role("worker") as session:
        session.execute(update(FineTuningJob).values(cancel_requested_at=clock.now()))
    with jobs.exclusive(books.engines["worker"], job_id):
        assert location.asks(SENSOR) == []
        assert row(books, job_id).state == "validating_files", "whoever holds it ends it"
    assert location.asks(SENSOR) == []
    assert row(books, job_id).state == "cancelled"
    assert objects.get(Bucket.ADAPTERS, checkpoint) is None


def test_only_one_process_holds_a_job(books: Books, job_id: UUID, worker: Engine) -> None:
    with jobs.exclusive(worker, job_id), pytest.raises(jobs.AnotherRunWorks), jobs.exclusive(worker, job_id):
        pass
    with unit_of_work(worker) as session:
        assert not jobs.is_worked_on(session, job_id)
