"""Fixtures that every test may ask for: real parts, started once and thrown away at the end."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from local.objects import EmbeddedObjectStore
from studio.catalog.sync import sync_catalog
from studio.db.sessions import engine_for, unit_of_work
from studio.money import Currency
from studio.settings import REPOSITORY, settings
from studio.tenants import Billing, CreatedKey, create_key, create_tenant
from tests.local.servers import running_objects
from tests.server import TestDatabase, TestServer, running_server


def pytest_sessionstart(session: pytest.Session) -> None:
    """One seed for all processes of this run, said before anything can fail or hang."""
    if hasattr(session.config, "workerinput"):
        return  # it has inherited the seed
    seed = os.environ.get("STUDIO_CHAOS_SEED") or str(random.randrange(1 << 30))
    os.environ["STUDIO_CHAOS_SEED"] = seed
    session.config.get_terminal_writer().line(f"STUDIO_CHAOS_SEED={seed} repeats what this run leaves to chance")


@pytest.fixture(scope="session")
def run_folder() -> Iterator[Path]:
    """A folder of this run that other OS users may pass through (PostgreSQL is not run as root)."""
    folder = Path(tempfile.mkdtemp(prefix="studio-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(run_folder: Path) -> Iterator[TestServer]:
    """The PostgreSQL of this run."""
    with running_server(run_folder) as running:
        yield running


@pytest.fixture
def demo_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process belongs to a demo, where the clock of opening hours may be moved."""
    with monkeypatch.context() as environment:
        environment.setenv("STUDIO_ENV", "demo")
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture
def database(server: TestServer) -> TestDatabase:
    """A fresh migrated database, empty."""
    return server.database()


@pytest.fixture
def worker(database: TestDatabase) -> Iterator[Engine]:
    """The role of Dagster on the fresh database."""
    engine = engine_for(database.url("worker"))
    yield engine
    engine.dispose()


@pytest.fixture
def operator(database: TestDatabase) -> Iterator[Engine]:
    """The role of the admin routes on the fresh database."""
    engine = engine_for(database.url("operator"))
    yield engine
    engine.dispose()


@pytest.fixture
def catalog(worker: Engine) -> None:
    """The reviewed catalog of this repository, synchronised."""
    with unit_of_work(worker) as session:
        sync_catalog(session, REPOSITORY / "catalog", "local")


@pytest.fixture
def tenant(catalog: None, operator: Engine) -> UUID:
    """The tenant `acme`: euros, German entity, Berlin days."""
    return new_tenant(operator, "acme")


@pytest.fixture
def api_key(tenant: UUID, operator: Engine) -> CreatedKey:
    """A key of `acme` without limits of its own."""
    with unit_of_work(operator) as session:
        return create_key(session, tenant, "test", "tests")


@pytest.fixture(scope="session")
def objects(run_folder: Path) -> Iterator[EmbeddedObjectStore]:
    """A running S3 server with the buckets."""
    with running_objects(run_folder / "objects") as server:
        yield server


def new_tenant(
    operator: Engine,
    slug: str,
    *,
    time_zone: str = "Europe/Berlin",
    currency: Currency = Currency.EUR,
    legal_entity: str = "xpulink-de",
) -> UUID:
    """A tenant billed since January 2026."""
    buyer = {"name": slug.title(), "street": "Hauptstr. 1", "city": "10115 Berlin", "country": "DE"}
    buyer["vat_id"] = "DE111111111"  # an address for e-invoices
    billing = Billing(legal_entity, currency, time_zone, buyer, date(2026, 1, 1))
    with unit_of_work(operator) as session:
        return create_tenant(session, slug, slug.title(), billing, "tests")
