"""Batches under Dagster: a worker runs when there is something to do, and what it does can be watched."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import Engine, insert

from orchestration.jobs import BATCH_WORKER
from serving.batches import workers
from serving.batches.drain import Equipment, Pace
from serving.files import records
from studio import clock, ids
from studio.db.jobs import Batch, File
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from studio.tenants import CreatedKey
from tests.orchestration.location import Location
from tests.serving.batches.orders import line
from tests.serving.gateway_process import attach
from tests.stub_engine import StubEngine

SENSOR = "batch_supply"
QUICK = Pace(look=timedelta(seconds=0.1), idle=timedelta(seconds=1), heartbeat=timedelta(seconds=0.2))


@pytest.fixture
def batch_location(location: Location, worker: Engine, objects: ObjectStore) -> Location:
    """The code location with a worker that does not idle long."""
    equipment = Equipment(worker, objects, b"a secret of the tests", QUICK)
    return replace(location, resources={**location.resources, "batch_equipment": equipment})


def submit(worker: Engine, objects: ObjectStore, tenant_id: UUID, key: CreatedKey, lines: int) -> UUID:
    """A batch as the gateway leaves it."""
    file_id, batch_id, now = ids.uuid7(), ids.uuid7(), clock.now()
    object_key = records.object_key(tenant_id, file_id)
    objects.put(Bucket.FILES, object_key, "\n".join(line(str(n)) for n in range(lines)).encode())
    with unit_of_work(worker) as session:
        session.execute(
            insert(File).values(
                id=file_id, tenant_id=tenant_id, filename="f", purpose="batch", size_bytes=1, sha256="",
                object_key=object_key,
            )
        )  # fmt: skip
        session.execute(
            insert(Batch).values(
                id=batch_id, tenant_id=tenant_id, api_key_id=key.id, endpoint="/v1/chat/completions",
                completion_window="24h", input_file_id=file_id, state="validating", created_at=now,
                expires_at=now + timedelta(hours=24),
            )
        )  # fmt: skip
    return batch_id


def test_a_waiting_batch_gets_a_worker_whose_steps_can_be_watched(
    batch_location: Location, worker: Engine, operator: Engine, objects: ObjectStore, tenant: UUID, api_key: CreatedKey
) -> None:
    assert batch_location.asks(SENSOR) == []
    with StubEngine() as engine:
        attach(operator, engine.url)
        batch_id = submit(worker, objects, tenant, api_key, 60)
        (request,) = batch_location.asks(SENSOR)
        assert batch_location.carry_out(request, BATCH_WORKER.name).success
    assert batch_location.asks(SENSOR) == []
    observed = [
        {name: value.value for name, value in record.asset_observation.metadata.items()}
        for record in batch_location.instance.fetch_observations(dg.AssetKey("batches"), limit=50).records
        if record.asset_observation is not None
    ]
    assert {one["batch"] for one in observed} == {ids.to_wire(ids.BATCH, batch_id)}
    assert {"in_progress", "completed"} <= {one["state"] for one in observed}
    assert (observed[0]["completed"], observed[0]["total"], observed[0]["percent"]) == (60, 60, 100)
    made = batch_location.instance.get_latest_materialization_event(dg.AssetKey("batches"))
    assert made is not None


def test_a_batch_that_only_waits_for_its_model_gets_no_worker(
    batch_location: Location, worker: Engine, operator: Engine, objects: ObjectStore, tenant: UUID, api_key: CreatedKey
) -> None:
    submit(worker, objects, tenant, api_key, 1)
    (request,) = batch_location.asks(SENSOR)  # its file is still to be judged
    batch_location.carry_out(request, BATCH_WORKER.name)
    assert batch_location.asks(SENSOR) == []
    attach(operator, "http://127.0.0.1:1")
    (again,) = batch_location.asks(SENSOR)
    assert again.run_key != request.run_key


def test_a_worker_at_work_is_enough(
    batch_location: Location, worker: Engine, objects: ObjectStore, tenant: UUID, api_key: CreatedKey
) -> None:
    submit(worker, objects, tenant, api_key, 1)
    alive, dead = ids.uuid7(), ids.uuid7()
    with unit_of_work(worker) as session:
        workers.register(session, dead, clock.now() - timedelta(minutes=5))
    assert len(batch_location.asks(SENSOR)) == 1  # the dead one is closed by the sensor
    with unit_of_work(worker) as session:
        workers.register(session, alive, clock.now())
    assert batch_location.asks(SENSOR) == []


def test_workers_that_bring_nothing_forward_come_less_and_less_often(
    batch_location: Location,
    worker: Engine,
    objects: ObjectStore,
    tenant: UUID,
    api_key: CreatedKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit(worker, objects, tenant, api_key, 1)
    now = clock.now()
    for fruitless, pause in ((1, 15), (2, 30), (3, 60)):
        with unit_of_work(worker) as session:
            id = ids.uuid7()
            workers.register(session, id, now)
            workers.close(session, id, now, lost_work=False)
        assert batch_location.asks(SENSOR) == [], fruitless
        _at(monkeypatch, now + timedelta(seconds=pause - 1))
        assert batch_location.asks(SENSOR) == []
        now += timedelta(seconds=pause)
        _at(monkeypatch, now)
        assert len(batch_location.asks(SENSOR)) == 1
    submit(worker, objects, tenant, api_key, 1)  # what is new has not failed yet
    assert len(batch_location.asks(SENSOR)) == 1


def test_a_worker_that_has_only_bytes_to_remove_comes_at_most_hourly(
    batch_location: Location, worker: Engine, objects: ObjectStore, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _expired_file(worker, objects, tenant)
    (request,) = batch_location.asks(SENSOR)
    assert batch_location.carry_out(request, BATCH_WORKER.name).success
    assert objects.get(Bucket.FILES, first) is None
    _expired_file(worker, objects, tenant)
    assert batch_location.asks(SENSOR) == []
    _at(monkeypatch, clock.now() + timedelta(hours=1))
    (again,) = batch_location.asks(SENSOR)
    assert again.run_key != request.run_key


def _at(monkeypatch: pytest.MonkeyPatch, instant: datetime) -> None:
    monkeypatch.setattr(clock, "now", lambda: instant)


def _expired_file(worker: Engine, objects: ObjectStore, tenant_id: UUID) -> str:
    file_id = ids.uuid7()
    key = records.object_key(tenant_id, file_id)
    objects.put(Bucket.FILES, key, b"{}")
    with unit_of_work(worker) as session:
        session.execute(
            insert(File).values(
                id=file_id, tenant_id=tenant_id, filename="f", purpose="batch", size_bytes=1, sha256="",
                object_key=key, expires_at=clock.now() - timedelta(seconds=1),
            )
        )  # fmt: skip
    return key
