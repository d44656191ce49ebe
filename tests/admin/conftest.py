"""A gateway with an administrator's key, a customer's key and an object store."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from local.api import Api
from local.objects import EmbeddedObjectStore
from studio.catalog.sync import sync_catalog
from studio.db.sessions import engine_for, unit_of_work
from studio.db.tenancy import Tenant
from studio.settings import REPOSITORY
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.server import TestDatabase, TestServer
from tests.serving.gateway_process import GatewayProcess

STRIPE_SECRET = "whsec_of_the_tests"


@dataclass(frozen=True, slots=True)
class Office:
    """Where operators work."""

    gateway: GatewayProcess
    database: TestDatabase
    operator: Engine
    admin_key: str
    customer_key: str
    api: Api  # what the command line uses, with the administrator's key
    colleague: Api  # another operator

    def studio(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line against this gateway, as an operator types it."""
        return subprocess.run(
            [str(REPOSITORY / "bin" / "studio"), *arguments],
            env={**os.environ, "STUDIO_GATEWAY_URL": self.gateway.url, "STUDIO_API_KEY": self.admin_key},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def status_with(self, key: str, path: str) -> int:
        """What `GET path` answers to a key."""
        headers = {"authorization": f"Bearer {key}"}
        return httpx.get(f"{self.gateway.url}{path}", headers=headers, trust_env=False).status_code


@pytest.fixture(scope="module")
def office(
    server: TestServer, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    """One for all tests of a file."""
    with opened(server, objects, tmp_path_factory.mktemp("office")) as office:
        yield office


@pytest.fixture(scope="session")
def shared_office(
    server: TestServer, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    """One for files that do not mind what others of them did there: a gateway takes seconds to start."""
    with opened(server, objects, tmp_path_factory.mktemp("office")) as office:
        yield office


@contextmanager
def opened(server: TestServer, objects: EmbeddedObjectStore, folder: Path) -> Iterator[Office]:
    """An office for the length of the block."""
    database = server.database()
    worker, operator = engine_for(database.url("worker")), engine_for(database.url("operator"))
    with unit_of_work(worker) as session:
        sync_catalog(session, REPOSITORY / "catalog", "local")
    customer = new_tenant(operator, "acme")
    with unit_of_work(operator) as session:
        house = Tenant(slug="house", name="Operators")
        session.add(house)
        session.flush()
        admin_key = create_key(session, house.id, "admin", "tests", scopes=["admin"]).text
        colleague_key = create_key(session, house.id, "colleague", "tests", scopes=["admin"]).text
        customer_key = create_key(session, customer, "customer", "tests").text
    settings = {**objects.environment, "STUDIO_STRIPE_WEBHOOK_SECRET": STRIPE_SECRET}
    with GatewayProcess(database, folder, settings=settings) as gateway:
        api, colleague = Api(gateway.url, admin_key), Api(gateway.url, colleague_key)
        yield Office(gateway, database, operator, admin_key, customer_key, api, colleague)
        api.close()
        colleague.close()
    worker.dispose()
    operator.dispose()
