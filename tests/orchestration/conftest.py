"""Fixtures of the Dagster tests: our definitions over a real database and a real object store."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from assets.notices import Post
from local.objects import EmbeddedObjectStore
from local.ports import MAX_OFFSET, Ports
from local.secrets import StackSecrets
from studio.db.sessions import engine_for
from studio.objects import ObjectStore
from studio.settings import Settings
from tests.billing.books import CATALOG, Books
from tests.orchestration.location import Location
from tests.server import TestDatabase
from training.process import LocalTrainers
from training.run import Workshop


@pytest.fixture(scope="session")
def objects(run_folder: Path) -> Iterator[ObjectStore]:
    """The embedded S3 server."""
    run = run_folder / "s3-run"
    run.mkdir()
    ports = Ports(random.randrange(1_000, MAX_OFFSET))  # a demo cloud may run beside the tests
    embedded = EmbeddedObjectStore(run_folder / "s3", run, ports, StackSecrets())
    service = embedded.service()
    embedded.prepare()
    with (run_folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            service.argv, env=os.environ | dict(service.env), cwd=service.cwd, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not embedded.is_ready():
            assert process.poll() is None, (run_folder / "s3.log").read_text()
            assert time.monotonic() < deadline, "the object store was not ready within 60 s"
            time.sleep(0.2)
        yield ObjectStore.from_settings(
            Settings(
                s3_endpoint_url=embedded.url,
                s3_access_key=SecretStr(embedded.secrets.s3_access_key),
                s3_secret_key=SecretStr(embedded.secrets.s3_secret_key),
            )
        )
    finally:
        process.send_signal(service.stop_signal)
        process.wait(timeout=30)


@pytest.fixture
def books(database: TestDatabase) -> Iterator[Books]:
    """A database with a small catalog and one engine."""
    books = Books(database)
    books.open()
    yield books
    books.close()


@pytest.fixture
def location(database: TestDatabase, objects: ObjectStore) -> Iterator[Location]:
    """Our code location over the test's database and object store."""
    engine = engine_for(database.url("worker"))
    resources: dict[str, object] = {
        "worker_database": engine,
        "objects": objects,
        "catalog_files": CATALOG,
        "post": Post(None, None),
        "workshop": Workshop(engine, objects, LocalTrainers(objects, Path(sys.executable), {}, Path("weights"))),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(resources, instance)
    engine.dispose()
