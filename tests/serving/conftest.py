"""Running gateways. Most tests share one, since each has a key or a model of its own to look at; tests that kill or
starve a gateway start theirs on a fresh database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import openai
import pytest
from sqlalchemy import Engine

from studio.catalog.sync import sync_catalog
from studio.db.sessions import engine_for, unit_of_work
from studio.settings import REPOSITORY
from studio.tenants import CreatedKey, create_key
from tests.conftest import new_tenant
from tests.server import TestDatabase, TestServer
from tests.serving.gateway_process import EMBEDDING, GatewayProcess, attach
from tests.stub_engine import StubEngine


@dataclass(frozen=True, slots=True)
class House:
    """A database with catalog and tenant, and what a test needs to act on it."""

    database: TestDatabase
    operator: Engine
    tenant_id: UUID
    key: CreatedKey


@contextmanager
def furnished(server: TestServer) -> Iterator[House]:
    """A house of its own."""
    database = server.database()
    worker, operator = engine_for(database.url("worker")), engine_for(database.url("operator"))
    with unit_of_work(worker) as session:
        sync_catalog(session, REPOSITORY / "catalog", "local")
    tenant_id = new_tenant(operator, "acme")
    with unit_of_work(operator) as session:
        key = create_key(session, tenant_id, "test", "tests")
    yield House(database, operator, tenant_id, key)
    worker.dispose()
    operator.dispose()


@contextmanager
def stub_of(house: House) -> Iterator[StubEngine]:
    """A stub engine that answers for chat (base and fast) and for embeddings."""
    with StubEngine() as stub:
        attach(house.operator, stub.url)
        attach(house.operator, stub.url, EMBEDDING)
        yield stub


@pytest.fixture(scope="module")
def house(server: TestServer) -> Iterator[House]:
    """One for all tests of a file."""
    with furnished(server) as house:
        yield house


@pytest.fixture(scope="module")
def engine(house: House) -> Iterator[StubEngine]:
    """The one of this file's house."""
    with stub_of(house) as stub:
        yield stub


@pytest.fixture(scope="module")
def gateway(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway in front of `engine`."""
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture
def api(gateway: GatewayProcess, house: House) -> Iterator[httpx.Client]:
    """HTTP with a good key."""
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {house.key.text}"}) as client:
        yield client


@pytest.fixture
def stranger(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """HTTP without a key."""
    with httpx.Client(base_url=gateway.url) as client:
        yield client


@pytest.fixture
def sdk(gateway: GatewayProcess, house: House) -> Iterator[openai.OpenAI]:
    """The official SDK, which tries once."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=house.key.text, max_retries=0) as client:
        yield client


@pytest.fixture
def own_gateway(database: TestDatabase, catalog: None, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway on a fresh database, not started yet, for a test that kills it. Its engines are the test's business."""
    process = GatewayProcess(database, tmp_path)
    yield process
    process.kill()
