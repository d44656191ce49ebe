"""One gateway for all checks of conformance: none of them breaks anything."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis

from local.objects import EmbeddedObjectStore
from studio.db.sessions import unit_of_work
from studio.tenants import SCOPES, create_key
from tests.admin.conftest import STRIPE_SECRET
from tests.local.servers import client as store_client
from tests.server import TestServer
from tests.serving.conformance import tour_of_operators, tour_of_tenants
from tests.serving.conformance.tour import Tour
from tests.serving.conftest import House, furnished, stub_of
from tests.serving.gateway_process import GatewayProcess, wait_until
from tests.stub_engine import StubEngine


@pytest.fixture(scope="package")
def house(server: TestServer) -> Iterator[House]:
    """One for all tests of this folder."""
    with furnished(server) as house:
        yield house


@pytest.fixture(scope="package")
def engine(house: House) -> Iterator[StubEngine]:
    """A stub engine that answers for chat (base and fast) and for embeddings."""
    with stub_of(house) as stub:
        yield stub


@pytest.fixture(scope="package")
def gateway(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway in front of `engine`."""
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="package")
def tour(
    house: House, engine: StubEngine, objects: EmbeddedObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tour]:
    """A gateway with everything switched on, after every operation has answered well once."""
    with unit_of_work(house.operator) as session:
        keys = {
            name: create_key(session, house.tenant_id, name, "tests", scopes=scopes, requests_per_second=limit).text
            for name, scopes, limit in (
                ("all", SCOPES, None), ("colleague", {"admin"}, None), ("slow", {"inference"}, 1)
            )
        }  # fmt: skip
    settings = {**objects.environment, "STUDIO_STRIPE_WEBHOOK_SECRET": STRIPE_SECRET, "STUDIO_WEBHOOK_KEY": "a secret"}
    folder = tmp_path_factory.mktemp("tour")
    with GatewayProcess(house.database, folder, settings=settings) as gateway, StubEngine() as spare:
        bearer = {"authorization": f"Bearer {keys['slow']}"}
        wait_until(lambda: httpx.get(f"{gateway.url}/v1/models", headers=bearer).status_code == 200)
        config = schemathesis.Config.from_dict({"seed": 5})
        document = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json", config=config)
        store = store_client(objects, objects.secrets.s3_secret_key)
        tour = Tour.of(document, gateway.url, house, store, keys)
        tour_of_tenants.walk(tour)
        tour_of_operators.walk(tour, spare)
        yield tour
        tour.client.close()
