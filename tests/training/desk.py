"""A tenant with jobs, and the workshop that works on them: real PostgreSQL and S3."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, insert, select

from local.demo.orders import as_jsonl, training_examples
from studio import ids, weights
from studio.db.jobs import Adapter, File, FineTuningEvent, FineTuningJob
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from studio.settings import Settings
from studio.weights import Manifest, describe
from tests.training.conftest import BASE, put
from training.process import LocalTrainers, trainer_environment
from training.progress import Prefix
from training.run import Workshop

GOOD = as_jsonl(training_examples(12, seed=1))


@dataclass
class Desk:
    """A tenant with a key, and the workshop that works on its jobs."""

    tenant_id: UUID
    key_id: UUID
    shop: Workshop

    def job(self, data: bytes = GOOD, validation: bytes | None = None, **hyperparameters: Any) -> UUID:
        """What the gateway writes for a new job."""
        job_id, file_id = ids.uuid7(), self._file(data)
        validation_file_id = None if validation is None else self._file(validation)
        job = {"tenant_id": self.tenant_id, "api_key_id": self.key_id, "variant_id": BASE, "state": "validating_files"}
        with unit_of_work(self.shop.database) as session:
            session.execute(
                insert(FineTuningJob).values(
                    id=job_id,
                    training_file_id=file_id,
                    validation_file_id=validation_file_id,
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

    def left_in_store(self, job_id: UUID) -> set[str]:
        """The folders of the job's objects."""
        prefix = self.prefix(job_id)
        pages = prefix.client.get_paginator("list_objects_v2").paginate(Bucket=prefix.bucket, Prefix=prefix.prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {key.removeprefix(prefix.prefix).split("/")[0] for key in keys}

    def prefix(self, job_id: UUID) -> Prefix:
        """Where the job's objects lie."""
        store = self.shop.store
        return Prefix(store.client, store.name(Bucket.ADAPTERS), f"{self.tenant_id.hex}/{job_id.hex}/")

    def _file(self, data: bytes) -> UUID:
        stored, id = put(self.shop.store, data), ids.uuid7()
        file = {"tenant_id": self.tenant_id, "filename": "orders.jsonl", "purpose": "fine-tune", "size_bytes": 1}
        with unit_of_work(self.shop.database) as session:
            session.execute(insert(File).values(id=id, object_key=stored.key, sha256=stored.sha256, **file))
        return id


def push_weights(store: ObjectStore, folder: Path) -> None:
    """Let the catalog's chat model have these weights."""
    manifest = Manifest(BASE, "Apache-2.0", describe(folder))
    for file in manifest.files:
        store.put(Bucket.MODELZOO, manifest.object_key(file), (folder / file.path).read_bytes())
    weights.publish(store, manifest)


def with_trainer(desk: Desk, folder: Path, act: str) -> Workshop:
    """The workshop with a stand-in, which is started like the trainer: PYTHON -m training.trainer --job JOB."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.training.stand_in "{act}" "$4"\n')
    python.chmod(0o755)
    assert isinstance(desk.shop.trainers, LocalTrainers)
    return replace(desk.shop, trainers=replace(desk.shop.trainers, python=python))


def desk_with_weights_nobody_reads(
    tenant_id: UUID, key_id: UUID, worker: Engine, store: ObjectStore, settings: Settings, folder: Path
) -> Desk:
    """For tests of what is beside the trainer; the python is set by `with_trainer`."""
    model = folder / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    push_weights(store, model)
    trainers = LocalTrainers(store, Path(sys.executable), trainer_environment(settings), folder / "weights")
    return Desk(tenant_id, key_id, Workshop(worker, store, trainers))
