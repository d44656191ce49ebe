"""What a token says, in our words; and what the provider's keys are good for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from serving.identity.claims import read_claims
from serving.identity.permissions import Role
from serving.identity.provider import Provider, read_keys
from studio.errors import InvalidToken, ServiceUnavailable
from studio.settings import SettingMissing
from tests.serving.oidc.provider import SigningKeys

WHO = {"iss": "https://sso.example", "sub": "1"}


@pytest.mark.parametrize(
    ("claim", "value", "tenants"),
    [
        ("tenant", "acme", {"acme"}),
        ("tenant", ["acme", "globex"], {"acme", "globex"}),
        ("groups", ["/tenants/acme", "/staff", "/tenants/acme/below"], {"acme"}),
        ("https://example.com/tenant", "acme", {"acme"}),
        ("tenant", "", set()),
        ("tenant", 7, set()),
        ("tenant", {"acme": True}, set()),
        ("tenant", ["acme", None], {"acme"}),
    ],
)
def test_tenants(claim: str, value: Any, tenants: set[str]) -> None:
    assert read_claims({**WHO, claim: value}, claim, "roles").tenants == tenants


def test_roles_that_hold_everywhere_have_names_of_their_own() -> None:
    said = {"realm_access": {"roles": ["owner", "finance", "ops", "platform-auditor", "admin", "platform-owner"]}}
    person = read_claims(WHO | said, "tenant", "realm_access.roles")
    assert person.roles == {Role.OWNER, Role.FINANCE}
    assert person.everywhere == {Role.OPS, Role.AUDITOR}


@pytest.mark.parametrize("roles", [None, 7, {"owner": 1}, [["owner"]]])
def test_roles_of_another_form_are_none(roles: Any) -> None:
    assert read_claims(WHO | {"realm_access": {"roles": roles}}, "tenant", "realm_access.roles").roles == set()


@pytest.mark.parametrize("verified", [{}, {"email_verified": False}, {"email_verified": "true"}])
def test_an_address_that_is_not_verified_names_nobody(verified: dict[str, Any]) -> None:
    said = WHO | {"email": "boss@example.com"} | verified
    assert read_claims(said, "tenant", "roles").actor == "oidc:https://sso.example#1"


def test_keys_that_no_signature_may_be_checked_with_are_left_out() -> None:
    good = SigningKeys("a").jwks()["keys"][0] | {"alg": "RS256"}
    public = {name: good[name] for name in ("kty", "n", "e", "kid", "use", "alg")}
    weak = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)  # noqa: S505  # that is it
    others: list[Any] = [
        good | {"kid": "private"},
        public | {"kid": "encryption", "use": "enc"},
        weak | {"kid": "weak"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"},
        "text",
    ]
    keys = read_keys({"keys": [public, *others]})
    assert {kid: key.algorithms for kid, key in keys.items()} == {
        "a-rsa": frozenset({"RS256"}),
        None: frozenset({"RS256"}),
    }


def test_a_provider_without_tls_is_refused_beyond_this_machine() -> None:
    with pytest.raises(SettingMissing, match="https"):
        Provider("http://sso.example/realms/x", "studio")


@dataclass
class Issuer:
    """Answers for a provider, and counts how often it is asked. `claimed` is what it calls itself."""

    url: str = ""
    claimed: str = ""
    keys: Any = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/jwks":
            return web.json_response({"keys": self.keys})
        return web.json_response({"issuer": self.claimed or self.url, "jwks_uri": f"{self.url}/jwks"})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    one = Issuer()
    app = web.Application()
    app.router.add_get("/{path:.*}", one.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.url = site.name
    yield one
    await runner.cleanup()


def public_keys(keys: SigningKeys) -> list[Any]:
    return [{"kid": keys.rsa_id, **RSAAlgorithm.to_jwk(keys.rsa.public_key(), as_dict=True)}]


def token(issuer: Issuer, keys: SigningKeys, **header: Any) -> str:
    return keys.sign({"iss": issuer.url, "sub": "1", "aud": "studio", "exp": time.time() + 60}, **header)


async def test_a_flood_of_unknown_keys_asks_the_provider_once(issuer: Issuer) -> None:
    provider, keys = Provider(issuer.url, "studio"), SigningKeys("a")
    tokens = [token(issuer, keys, kid=f"unknown-{number}") for number in range(50)]
    answers = await asyncio.gather(*map(provider.verify, tokens), return_exceptions=True)
    assert all(isinstance(one, InvalidToken) for one in answers)
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


async def test_a_key_that_the_provider_has_withdrawn_is_good_no_longer(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, keys = Provider(issuer.url, "studio"), SigningKeys("a")
    issuer.keys = public_keys(keys)
    assert (await provider.verify(token(issuer, keys)))["sub"] == "1"
    issuer.keys = public_keys(SigningKeys("b"))
    monkeypatch.setattr("serving.identity.provider.STALE_AFTER", timedelta(0))
    monkeypatch.setattr("serving.identity.provider.REFETCH_AFTER", timedelta(0))
    assert (await provider.verify(token(issuer, keys)))["sub"] == "1"  # nobody waits while the keys are read again
    for _ in range(100):
        await asyncio.sleep(0.05)
        if [kid for kid in provider._keys if kid] == ["b-rsa"]:
            break
    with pytest.raises(InvalidToken, match="does not have"):
        await provider.verify(token(issuer, keys))


async def test_keys_of_a_provider_that_calls_itself_another_are_not_believed(issuer: Issuer) -> None:
    provider, keys = Provider(issuer.url, "studio"), SigningKeys("a")
    issuer.keys, issuer.claimed = public_keys(keys), "https://evil.example"
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        await provider.verify(token(issuer, keys))


async def test_keys_of_another_form_are_a_provider_that_does_not_answer_and_is_not_asked_at_once_again(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, keys = Provider(issuer.url, "studio"), SigningKeys("a")
    issuer.keys = [{"kid": ["no text"]}, *public_keys(keys)]
    assert (await provider.verify(token(issuer, keys)))["sub"] == "1"
    issuer.keys, issuer.asked = None, []
    monkeypatch.setattr("serving.identity.provider.REFETCH_AFTER", timedelta(0))
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        await provider.verify(token(issuer, keys, kid="unknown"))
    monkeypatch.undo()
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        await provider.verify(token(issuer, keys, kid="unknown"))
    assert issuer.asked.count("/jwks") == 1
    assert (await provider.verify(token(issuer, keys)))["sub"] == "1"  # the keys of before
