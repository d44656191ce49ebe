"""A gateway with a cache in front of two engines of our own, one that writes and one that embeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import httpx
import pytest

from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.server import TestServer
from tests.serving import ledger
from tests.serving.conftest import House, furnished
from tests.serving.gateway_process import CHAT, EMBEDDING, GatewayProcess, attach, wait_until
from tests.serving.limits.valkey_server import ValkeyServer
from tests.stub_engine import StubEngine

TENANT_BYTES = 40_000


@dataclass(frozen=True)
class Shop:
    """Who sells, and customers to come."""

    house: House
    gateway: GatewayProcess
    chat: StubEngine
    embedding: StubEngine
    replicas: dict[str, UUID]
    valkey: ValkeyServer
    _clients: list[httpx.Client] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def customer(
        self,
        tenant_id: UUID | None = None,
        *,
        own_cache: bool = False,
        scopes: Collection[str] = ("inference", "usage"),
    ) -> Customer:
        """With a fresh key; of a fresh tenant, unless one is named."""
        operator = self.house.operator
        if tenant_id is None:
            tenant_id = new_tenant(operator, f"customer-{next(self._numbers)}")
        with unit_of_work(operator) as session:
            key = create_key(session, tenant_id, "test", "tests", own_cache=own_cache, scopes=scopes)
        headers = {"authorization": f"Bearer {key.text}"}
        client = httpx.Client(base_url=self.gateway.url, headers=headers, timeout=30)
        self._clients.append(client)
        wait_until(lambda: client.get("/v1/models").status_code == 200, seconds=5)
        return Customer(self, tenant_id, key.id, key.text, client)

    def keys_in_valkey(self, tenant_id: UUID) -> list[str]:
        """The entries of a tenant."""
        return [key.decode() for key in self.valkey.call("KEYS", f"studio:{{{tenant_id.hex}}}:cached:*")]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()


@dataclass(frozen=True, slots=True)
class Customer:
    """One key."""

    shop: Shop
    tenant_id: UUID
    key_id: UUID
    key: str
    client: httpx.Client

    def ask(
        self, words: str = "one two three", cache: str | None = "use", path: str = "/v1/chat/completions", **more: Any
    ) -> httpx.Response:
        """A deterministic chat, unless `more` says otherwise."""
        headers = dict(more.pop("headers", {})) | ({} if cache is None else {"x-studio-cache": cache})
        body = {"model": CHAT, "messages": [{"role": "user", "content": words}], "max_tokens": 5, "temperature": 0}
        return self.client.post(path, json=body | more, headers=headers)

    def embed(self, inputs: Any, cache: str | None = "use", **more: Any) -> httpx.Response:
        """Vectors."""
        headers = dict(more.pop("headers", {})) | ({} if cache is None else {"x-studio-cache": cache})
        return self.client.post("/v1/embeddings", json={"model": EMBEDDING, "input": inputs} | more, headers=headers)

    def events(self, number: int) -> list[ledger.Event]:
        """All of its events, once there are so many."""

        def found() -> list[ledger.Event]:
            return ledger.events(self.shop.house.database, self.key_id)

        wait_until(lambda: len(found()) >= number, seconds=10)
        return found()


def outcome(answer: httpx.Response) -> str | None:
    """What the cache was to it."""
    assert answer.status_code == 200, answer.text
    found: str | None = answer.headers.get("x-studio-cache")
    return found


@pytest.fixture(scope="package")
def shop(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    valkey = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    valkey.start()
    settings = {"STUDIO_VALKEY_URL": valkey.url, "STUDIO_CACHE_BYTES_PER_TENANT": str(TENANT_BYTES)}
    with (
        furnished(server) as house,
        StubEngine(cached=1) as chat,
        StubEngine() as embedding,
        GatewayProcess(house.database, folder, settings=settings) as gateway,
    ):
        replicas = {CHAT: _ours(house, chat, CHAT), EMBEDDING: _ours(house, embedding, EMBEDDING)}
        wait_until(lambda: gateway.health()["cache"] == "on", seconds=10)
        shop = Shop(house, gateway, chat, embedding, replicas, valkey)
        yield shop
        shop.close()
    valkey.stop()


@pytest.fixture
def customer(shop: Shop) -> Customer:
    """Of a tenant of its own."""
    return shop.customer()


def _ours(house: House, engine: StubEngine, variant: str) -> UUID:
    """A replica that reconciliation looks at, as the node agent's are."""
    replica_id = attach(house.operator, engine.url, variant)
    with house.database.superuser() as connection:
        connection.execute("update replicas set kind = 'process' where id = %s", [replica_id])
    return replica_id
