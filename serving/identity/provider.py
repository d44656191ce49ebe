"""The OpenID provider: its public keys, fetched and kept, and the verification of what it has signed.

Keys are kept when the provider is away: whoever has a good token goes on. A key id that is not known makes us ask
again, at most once in `REFETCH_AFTER`: a rotation needs no restart, and a flood of forgeries costs the provider little.
Nothing here blocks: what is fetched comes from a thread, and a signature costs well below a millisecond.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt
import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from serving.identity import provider_http
from studio.errors import InvalidToken, ServiceUnavailable
from studio.settings import SettingMissing

LEEWAY = timedelta(seconds=60)  # between our clock and the provider's
REFETCH_AFTER = timedelta(seconds=5)
STALE_AFTER = timedelta(minutes=10)  # then keys are read again beside the requests, so that a withdrawn one goes
PATIENCE = timedelta(seconds=5)
LOGOUT_HOLDS = timedelta(minutes=2)  # for the clocks and the way; a logout token need not say when it ends
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
MOST_TOKEN_BYTES = 16 * 1024
RSA_BITS = 2048
# Signatures with a public key only: with `none` or a shared secret anybody who can read our keys could sign.
ALGORITHMS = frozenset({"RS256", "PS256", "ES256"})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of the provider and what it may be used with."""

    key: RSAPublicKey | EllipticCurvePublicKey
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where browsers are sent, and where codes become tokens."""

    authorization: str
    token: str
    end_session: str | None  # None: the provider has no sign-out of its own
    takes_basic: bool  # how it wants to know its client: by a header, else in the form


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Whose sessions a provider has ended: all of a subject, or those of one of its sessions."""

    subject: str | None
    session: str | None


class Provider:
    """One issuer. `issuer` must be what its own discovery document says, and what tokens say."""

    def __init__(self, issuer: str, audience: str) -> None:
        parts = urlsplit(issuer)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise SettingMissing(
                "STUDIO_OIDC_ISSUER must be an https URL: who can change its keys can sign in as anybody"
            )
        self.issuer = issuer
        self._audience = audience
        self._keys: dict[str | None, PublicKey] = {}
        self._asked_at = float("-inf")
        self._read_at = float("-inf")
        self._is_away = False
        self._asking = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._endpoints: Endpoints | None = None

    async def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that this provider made for us and that holds now; InvalidToken for any other."""
        claims = await self._claims(token, self._audience, ["exp", "iss", "aud", "sub"])
        if claims.get("typ", "Bearer") != "Bearer":  # Keycloak says in it what a token is for
            raise InvalidToken("This is no access token. Send the one that is.")
        return claims

    async def verify_id_token(self, token: str, client_id: str, nonce: str) -> Mapping[str, Any]:
        """The claims of what the provider says of a sign-in that began here with this `nonce`."""
        claims = await self._claims(token, client_id, ["exp", "iat", "iss", "aud", "sub", "nonce"])
        if claims["nonce"] != nonce:
            raise InvalidToken("The token belongs to another sign-in (`nonce`). Sign in again.")
        if claims.get("azp", client_id) != client_id:
            raise InvalidToken("The token was made for another client (`azp`). Sign in here again.")
        return claims

    async def verify_logout_token(self, token: str, client_id: str) -> SignedOut:
        """Whom the provider has signed out (OpenID Connect Back-Channel Logout 1.0, 2.6)."""
        claims = await self._claims(token, client_id, ["iat", "iss", "aud", "events"])
        events, subject, session = claims["events"], claims.get("sub"), claims.get("sid")
        if not isinstance(events, Mapping) or LOGOUT_EVENT not in events or "nonce" in claims:
            raise InvalidToken("This is no logout token.")
        if time.time() - claims["iat"] > (LOGOUT_HOLDS + LEEWAY).total_seconds():
            raise InvalidToken("The logout token is too old.")
        found = SignedOut(*(text if isinstance(text, str) else None for text in (subject, session)))
        if found == SignedOut(None, None):
            raise InvalidToken("The logout token names neither `sub` nor `sid`.")
        return found

    async def endpoints(self) -> Endpoints:
        """As discovery says; ServiceUnavailable when nobody has ever been able to ask."""
        if self._endpoints is None:
            await self._ask()
        if self._endpoints is None:
            raise ServiceUnavailable("The sign-in provider does not answer.", retry_after=REFETCH_AFTER)
        return self._endpoints

    async def _claims(self, token: str, audience: str, required: list[str]) -> Mapping[str, Any]:
        """Signature, issuer, audience and time: what all tokens of the provider have in common."""
        if len(token) > MOST_TOKEN_BYTES:
            raise InvalidToken(
                "The token is too long to be one of ours. Send the access token of the sign-in, or an API key."
            )
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError) as error:
            raise InvalidToken("The token is malformed. Sign in again.") from error
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise InvalidToken(f"Tokens must be signed with {', '.join(sorted(ALGORITHMS))}.")
        key = await self._key(header.get("kid"))
        if algorithm not in key.algorithms:
            raise InvalidToken("The token's algorithm is not the one of its key. Sign in again.")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=audience,
                issuer=self.issuer,
                leeway=LEEWAY,
                options={"require": required},
            )
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken("The token has expired. Sign in again.") from error
        except jwt.ImmatureSignatureError as error:
            raise InvalidToken("The token is not valid yet; the clock of its maker may be wrong.") from error
        except jwt.InvalidAudienceError as error:
            raise InvalidToken(f"The token is for somebody else: its `aud` must contain {audience}.") from error
        except jwt.InvalidIssuerError as error:
            raise InvalidToken(f"The token comes from another provider: its `iss` must be {self.issuer}.") from error
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(
                f"The token lacks the claim `{error.claim}`. Have the provider put it into its tokens."
            ) from error
        except jwt.PyJWTError as error:
            raise InvalidToken("The token is not valid. Sign in again.") from error
        return claims

    async def _key(self, kid: str | None) -> PublicKey:
        key = self._keys.get(kid)
        if key is None:
            await self._ask()
            key = self._keys.get(kid)
        elif time.monotonic() - self._read_at > STALE_AFTER.total_seconds() and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._ask())
            self._refreshing.add_done_callback(self._refreshed)
        if key is not None:
            return key
        if self._is_away:
            # Not 401: a client with a good token would take that for final.
            raise ServiceUnavailable("The sign-in provider does not answer.", retry_after=REFETCH_AFTER)
        raise InvalidToken("The token is signed with a key that its provider does not have. Sign in again.")

    def _refreshed(self, _: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _ask(self) -> None:
        """Read the keys again, unless that was done a moment ago. When it fails, those of before stay."""
        async with self._asking:
            if time.monotonic() - self._asked_at < REFETCH_AFTER.total_seconds():
                return
            try:
                keys = await self._published_keys()
            except Exception as error:  # noqa: BLE001  # whatever they publish, it is not for a caller to see
                if not self._is_away:
                    log.warning("oidc_provider_away", issuer=self.issuer, error=f"{type(error).__name__}: {error}")
                self._is_away = True
            else:
                if set(keys) != set(self._keys):
                    log.info("oidc_keys_read", issuer=self.issuer, keys=[str(kid) for kid in keys])
                self._keys, self._is_away = keys, False
                self._read_at = time.monotonic()
            self._asked_at = time.monotonic()

    async def _published_keys(self) -> dict[str | None, PublicKey]:
        about = await _document(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if about.get("issuer") != self.issuer:
            raise ValueError(f"the provider calls itself {about.get('issuer')!r}")
        address = str(about.get("jwks_uri"))
        if urlsplit(address).scheme != urlsplit(self.issuer).scheme:
            raise ValueError(f"the provider's keys are at {address!r}")
        published = await _document(address)
        self._endpoints = _endpoints(about, self.issuer)
        return read_keys(published)


def _endpoints(about: Mapping[str, Any], issuer: str) -> Endpoints | None:
    """None for a provider that only makes tokens for programs."""
    authorization, token, end = (
        about.get(name) for name in ("authorization_endpoint", "token_endpoint", "end_session_endpoint")
    )
    if not isinstance(authorization, str) or not isinstance(token, str):
        return None
    if urlsplit(token).scheme != urlsplit(issuer).scheme:
        raise ValueError(f"the provider takes codes at {token!r}")
    ways = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Endpoints(authorization, token, end if isinstance(end, str) else None, "client_secret_basic" in ways)


def read_keys(published: Mapping[str, Any]) -> dict[str | None, PublicKey]:
    """The keys of a JWKS that signatures can be checked with, by key id. A lone key also answers for no id at all."""
    published_keys = published.get("keys")
    if not isinstance(published_keys, list):
        raise ValueError("the provider's document of keys has no list of `keys`")  # foreign input
    keys: dict[str | None, PublicKey] = {}
    for one in published_keys:
        if not isinstance(one, dict) or not isinstance(kid := one.get("kid"), str | None):
            continue
        if (key := _public_key(one)) is not None:
            keys[kid] = key
    if len(keys) == 1:
        keys.setdefault(None, next(iter(keys.values())))
    return keys


def _public_key(jwk: dict[str, Any]) -> PublicKey | None:
    """None for keys of another use or kind, and for weak ones."""
    if jwk.get("use", "sig") != "sig":
        return None
    try:
        if jwk.get("kty") == "RSA":
            rsa = RSAAlgorithm.from_jwk(jwk)
            if isinstance(rsa, RSAPublicKey) and rsa.key_size >= RSA_BITS:
                return PublicKey(rsa, _named(jwk, "RS256", "PS256"))
        elif jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
            ec = ECAlgorithm.from_jwk(jwk)
            if isinstance(ec, EllipticCurvePublicKey):
                return PublicKey(ec, _named(jwk, "ES256"))
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return None


def _named(jwk: dict[str, Any], *possible: str) -> frozenset[str]:
    """The algorithm that the key names; all that are possible when it names none."""
    return frozenset(possible) if "alg" not in jwk else frozenset(possible) & {jwk["alg"]}


async def _document(url: str) -> Mapping[str, Any]:
    answer = await provider_http.get(url, PATIENCE)
    if answer.status != 200:
        raise ValueError(f"{url} answered {answer.status}")
    document = orjson.loads(answer.body)
    if not isinstance(document, dict):
        raise ValueError(f"{url} did not answer an object")  # as all the others here
    return document
