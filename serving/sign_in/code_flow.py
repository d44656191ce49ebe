"""The authorization code flow with PKCE, from the gateway's side (OpenID Connect Core 3.1, RFC 7636).

The browser sees a code and never a token. Whoever signs in must hold two good tokens: the ID token, which belongs to
this browser's attempt, and the access token, which is checked as that of any API call and says which roles there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
import structlog

from serving.identity import provider_http
from serving.identity.callers import People
from serving.identity.claims import SignIn
from serving.identity.provider import Endpoints
from serving.sign_in.attempts import Attempt
from studio.errors import InvalidToken, ServiceUnavailable

PATIENCE = timedelta(seconds=10)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a good code gave."""

    person: SignIn
    id_token: str
    provider_session: str | None


class CodeFlow:
    """One client at one provider."""

    def __init__(
        self, people: People, client_id: str, secret: str | None, scopes: str, audience: str, gateway_url: str
    ) -> None:
        self._people = people
        self.client_id = client_id
        self._secret = secret
        self._scopes = scopes
        self._gateway_url = gateway_url.rstrip("/")
        # RFC 8707: a provider that knows resources makes its access token for ours. An audience that is no URI is put
        # into tokens by the client's own settings (in Keycloak by an audience mapper).
        self._resource = {"resource": audience} if urlsplit(audience).scheme else {}

    @property
    def people(self) -> People:
        """Who verifies."""
        return self._people

    @property
    def _redirect_uri(self) -> str:
        return f"{self._gateway_url}/auth/callback"

    async def where_to_sign_in(self, attempt: Attempt) -> str:
        """The provider's page for this attempt."""
        endpoints = await self._people.provider.endpoints()
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": self._scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            **self._resource,
        }
        return _with_query(endpoints.authorization, asked)

    async def where_to_sign_out(self, id_token: str | None, return_to: str) -> str | None:
        """The provider's own sign-out (RP-Initiated Logout 1.0); None when it has none."""
        try:
            endpoints = await self._people.provider.endpoints()
        except ServiceUnavailable:
            return None  # signed out here is signed out
        if endpoints.end_session is None or id_token is None:
            return None
        asked = {
            "id_token_hint": id_token,
            "client_id": self.client_id,
            "post_logout_redirect_uri": f"{self._gateway_url}{return_to}",
        }
        return _with_query(endpoints.end_session, asked)

    async def finish(self, attempt: Attempt, code: str) -> SignedIn:
        """Who came back with a code. InvalidToken, or ServiceUnavailable."""
        tokens = await self._tokens(await self._people.provider.endpoints(), attempt, code)
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise InvalidToken("The sign-in provider gave no ID token; the client must be one of OpenID Connect.")
        said = await self._people.provider.verify_id_token(id_token, self.client_id, attempt.nonce)
        person = await self._people.who(access_token)
        if person.subject != said["sub"]:
            raise InvalidToken("The tokens of the sign-in are of two people. Sign in again.")
        session = said.get("sid")
        return SignedIn(person, id_token, session if isinstance(session, str) else None)

    async def _tokens(self, endpoints: Endpoints, attempt: Attempt, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": attempt.verifier,
            **self._resource,
        }
        basic = None
        if self._secret is not None and endpoints.takes_basic:
            basic = (self.client_id, self._secret)
        else:
            form["client_id"] = self.client_id
            if self._secret is not None:
                form["client_secret"] = self._secret
        try:
            answer = await provider_http.post_form(endpoints.token, form, basic, PATIENCE)
            tokens = orjson.loads(answer.body)
        except (provider_http.ProviderUnreachable, orjson.JSONDecodeError) as error:
            log.warning("oidc_code_not_exchanged", error=type(error).__name__)
            raise ServiceUnavailable("The sign-in provider does not answer.", retry_after=PATIENCE) from error
        if answer.status != 200 or not isinstance(tokens, dict):
            why = tokens.get("error") if isinstance(tokens, dict) else None
            log.warning("oidc_code_refused", status=answer.status, error=str(why))
            if answer.status >= 500:
                raise ServiceUnavailable("The sign-in provider failed.", retry_after=PATIENCE)
            raise InvalidToken("The sign-in provider did not take its own code. Sign in again.")
        return tokens


def _with_query(url: str, parameters: dict[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(parameters)}"
