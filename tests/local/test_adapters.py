"""Adapters and the node agent: what is validated and not deleted, every engine of its base has. The engines here are
stubs; `tests/e2e` shows the same on vLLM."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, insert, select, update

from local.objects import EmbeddedObjectStore
from studio import clock, ids
from studio.adapters import ADAPTER_FILES, adapter_sha256
from studio.db.fleet import Replica
from studio.db.jobs import Adapter, File, FineTuningJob, LoadedAdapter
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from tests.local.eventually import eventually
from tests.local.node import VARIANT, NodeUnderTest
from tests.local.servers import client

BODIES = (b"{}", b"weights of an adapter")


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    """The object store, as a process of ours uses it."""
    return client(objects, objects.secrets.s3_secret_key)


def publish(worker: Engine, store: ObjectStore, tenant: UUID, sha256: str | None = None) -> Adapter:
    """What a run that succeeded leaves behind."""
    file_id, job_id, adapter_id = ids.uuid7(), ids.uuid7(), ids.uuid7()
    prefix = f"{tenant.hex}/{job_id.hex}/adapter/"
    for name, body in zip(ADAPTER_FILES, BODIES, strict=True):
        store.put(Bucket.ADAPTERS, prefix + name, body)
    own = {"tenant_id": tenant, "variant_id": VARIANT}
    with unit_of_work(worker) as session:
        file = {"filename": "f", "purpose": "fine-tune", "size_bytes": 1, "sha256": "", "object_key": ""}
        session.execute(insert(File).values(id=file_id, tenant_id=tenant, **file))
        job = {"api_key_id": ids.uuid7(), "seed": 1, "hyperparameters": {}, "state": "succeeded"}
        session.execute(insert(FineTuningJob).values(id=job_id, training_file_id=file_id, **own, **job))
        adapter = Adapter(
            id=adapter_id,
            job_id=job_id,
            name=f"ft:{VARIANT}:acme::{adapter_id.hex}",
            engine_name=f"{adapter_id.hex}-1",
            object_prefix=prefix,
            sha256=sha256 or adapter_sha256(BODIES),
            rank=8,
            size_bytes=1,
            **own,
        )
        session.add(adapter)
    return adapter


def loaded(replica: Replica) -> dict[str, str]:
    """What the engine itself says: paths by name."""
    models = httpx.get(f"{replica.url}/v1/models", timeout=5).json()["data"]
    return {model["id"]: model["root"] for model in models if model["parent"] is not None}


def recorded(worker: Engine) -> list[tuple[UUID, UUID]]:
    """What the table says: replica and adapter."""
    with unit_of_work(worker) as session:
        return list(session.execute(select(LoadedAdapter.replica_id, LoadedAdapter.adapter_id)).tuples())


def test_an_adapter_is_loaded_again_after_a_restart_and_unloaded_when_deleted(
    node: NodeUnderTest, worker: Engine, store: ObjectStore, tenant: UUID
) -> None:
    node.want(1)
    with node.running():
        first = node.ready()
        adapter = publish(worker, store, tenant)
        eventually(lambda: recorded(worker) == [(first.id, adapter.id)], "the engine has the adapter")
        (path,) = loaded(first).values()
        assert [(Path(path) / name).read_bytes() for name in ADAPTER_FILES] == list(BODIES)
        assert Path(path).name == adapter.engine_name

        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: recorded(worker) == [], "the dead engine has nothing")
        eventually(lambda: node.states() == ["failed", "ready"], "another engine")
        second = node.ready()
        eventually(lambda: recorded(worker) == [(second.id, adapter.id)], "the next engine has it again")

        with unit_of_work(worker) as session:
            session.execute(update(Adapter).values(deleted_at=clock.now()))
        eventually(lambda: recorded(worker) == [], "nobody may call it any more")
        assert loaded(second) == {}


def test_bytes_that_were_not_validated_reach_no_engine(
    node: NodeUnderTest, worker: Engine, store: ObjectStore, tenant: UUID
) -> None:
    node.want(1)
    with node.running():
        replica = node.ready()
        publish(worker, store, tenant, sha256="0" * 64)
        good = publish(worker, store, tenant)
        eventually(lambda: recorded(worker) == [(replica.id, good.id)], "the good one is loaded")
        assert list(loaded(replica)) == [good.engine_name]
        assert "adapter_waits" in node.log()
