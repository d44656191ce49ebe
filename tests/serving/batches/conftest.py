"""A gateway that keeps files, and workers that drain batches. Tests share them; each has tenants of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import UUID

import httpx
import openai
import pytest

from local.objects import EmbeddedObjectStore
from studio.db.sessions import unit_of_work
from studio.tenants import CreatedKey, create_key
from tests.conftest import new_tenant
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, wait_until

_numbers = count(1)


@pytest.fixture(scope="module")
def batch_gateway(
    house: House, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A running gateway. Its engines are the test's business."""
    folder = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(house.database, folder, settings=objects.environment) as gateway:
        yield gateway


@pytest.fixture
def batch_workers(house: House, objects: EmbeddedObjectStore, tmp_path: Path) -> Iterator[Workers]:
    """Workers of the database."""
    log = tmp_path / "workers.log"
    workers = Workers(house.database.environment("worker") | objects.environment, log)
    yield workers
    workers.kill()
    said = re.search(r"\bsay \S+", log.read_text() if log.exists() else "")
    assert said is None, said  # what lines ask (`orders.line`) is in no log, however the worker ended


@dataclass(frozen=True)
class Customer:
    """A tenant of one test, with the official SDK."""

    tenant_id: UUID
    key: CreatedKey
    sdk: openai.OpenAI


@pytest.fixture
def customer(house: House, batch_gateway: GatewayProcess) -> Iterator[Customer]:
    """Who the test is about."""
    yield from _customer(house, batch_gateway, "customer")


@pytest.fixture
def rival(house: House, batch_gateway: GatewayProcess) -> Iterator[Customer]:
    """Somebody else."""
    yield from _customer(house, batch_gateway, "rival")


@pytest.fixture
def sdk(customer: Customer) -> openai.OpenAI:
    """The customer's SDK."""
    return customer.sdk


def wait_for_key(gateway: GatewayProcess, key: CreatedKey) -> None:
    """A gateway learns of keys by notification, within milliseconds."""
    headers = {"authorization": f"Bearer {key.text}"}
    wait_until(lambda: httpx.get(f"{gateway.url}/v1/files", headers=headers).status_code == 200)


def _customer(house: House, gateway: GatewayProcess, kind: str) -> Iterator[Customer]:
    slug = f"{kind}-{next(_numbers)}"
    tenant_id = new_tenant(house.operator, slug)
    with unit_of_work(house.operator) as session:
        key = create_key(session, tenant_id, "test", "tests")
    wait_for_key(gateway, key)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.text, max_retries=0) as client:
        yield Customer(tenant_id, key, client)
