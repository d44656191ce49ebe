"""A gateway that people sign in to, with two tenants, and the provider that knows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from local.objects import EmbeddedObjectStore
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess
from tests.serving.oidc.provider import AUDIENCE, ProviderProcess, SigningKeys
from tests.stub_engine import StubEngine


def person(*roles: str, **claims: Any) -> dict[str, Any]:
    """Somebody's claims, as Keycloak writes them."""
    return {"claims": {"realm_access": {"roles": ["offline_access", *roles]}, "email_verified": True, **claims}}


PEOPLE = {
    "anna": person("owner", tenant="acme", email="anna@acme.example", name="Anna"),
    "dev": person("developer", tenant=["/tenants/acme", "/staff"]),
    "fin": person("finance", tenant="acme"),
    "gus": person("owner", tenant="globex", email="gus@globex.example"),
    "both": person("developer", tenant=["acme", "globex"]),
    "elliptic": person("developer", tenant="acme") | {"algorithm": "ES256"},
    "pss": person("developer", tenant="acme") | {"algorithm": "PS256"},
    "ops": person("ops", email="ops@studio.example"),
    "our-finance": person("platform-finance"),
    "our-auditor": person("platform-auditor"),
    "without-tenant": person("owner", "finance", "auditor"),
    "elsewhere": person("owner", tenant="no-such-tenant"),
    "nobody": person(email="nobody@example.com"),
    "late": person("developer", tenant="acme"),
    "ended": person("developer", tenant="acme", email="ended@acme.example"),
}


@dataclass(frozen=True, slots=True)
class Lobby:
    """Where people come in."""

    gateway: GatewayProcess
    provider: ProviderProcess
    house: House
    globex: UUID

    def call(
        self, who: str | None, method: str, path: str, token: str | None = None, headers: Any = None, **arguments: Any
    ) -> httpx.Response:
        """One request of a person, with a fresh token of the provider, or with the `token` given."""
        text = token if who is None else self.provider.token(who)
        headers = {"authorization": f"Bearer {text}"} | (headers or {})
        url = f"{self.gateway.url}{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **arguments)

    def status(self, token: str) -> int:
        """Whether a token lets in."""
        return self.call(None, "GET", "/v1/models", token).status_code


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    """The provider of a file's tests."""
    with ProviderProcess(tmp_path_factory.mktemp("provider"), PEOPLE, SigningKeys("first")) as process:
        yield process


@pytest.fixture(scope="module")
def lobby(
    house: House,
    engine: StubEngine,
    provider: ProviderProcess,
    objects: EmbeddedObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lobby]:
    """A gateway in front of a stub engine."""
    globex = new_tenant(house.operator, "globex")
    settings = {**objects.environment, "STUDIO_OIDC_ISSUER": provider.issuer, "STUDIO_OIDC_AUDIENCE": AUDIENCE}
    with GatewayProcess(house.database, tmp_path_factory.mktemp("lobby"), settings=settings) as gateway:
        yield Lobby(gateway, provider, house, globex)
