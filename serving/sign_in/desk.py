"""Where people are received: by a code of the provider, or by a one-time link. What the routes of `/auth` work with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from serving.identity.claims import SignIn
from serving.sign_in.code_flow import CodeFlow, SignedIn
from serving.sign_in.cookies import Cookies
from serving.sign_in.sessions import WebSessions
from studio.errors import InvalidToken

log = structlog.get_logger()


class Register(Protocol):
    """Of people and their places: `identity/callers.py`."""

    async def user_of(self, person: SignIn) -> UUID:
        """Written down."""

    def places(self, person: SignIn) -> Mapping[str, object]:
        """Open tenants with a role, by slug."""

    def tenant_named(self, slug: str) -> UUID | None:
        """Its id."""


class Desk:
    """One per process."""

    def __init__(
        self, register: Register, sessions: WebSessions, cookies: Cookies, flow: CodeFlow | None, *, takes_links: bool
    ) -> None:
        self._register = register
        self.sessions = sessions
        self.cookies = cookies
        self.flow = flow if cookies.is_safe else None
        self.takes_links = takes_links and cookies.is_safe
        if flow is not None and not cookies.is_safe:
            log.warning("browsers_cannot_sign_in", reason="STUDIO_GATEWAY_URL is neither https nor on this machine")

    async def welcome(self, signed_in: SignedIn, now: datetime) -> str:
        """The cookie's text of a new session."""
        user_id, tenant_id = await self._received(signed_in.person)
        return await self.sessions.start(
            signed_in.person,
            user_id,
            "oidc",
            tenant_id,
            now,
            id_token=signed_in.id_token,
            provider_session=signed_in.provider_session,
        )

    async def welcome_by_link(self, token: str, now: datetime) -> str:
        """The same for who holds a link that nobody has used. InvalidToken for another."""
        person = await self.sessions.use_link(token)
        user_id, tenant_id = await self._received(person)
        return await self.sessions.start(person, user_id, "link", tenant_id, now)

    def refused(self, why: InvalidToken) -> None:
        """For the operator who sets a provider up: the page cannot say more than that it failed."""
        log.warning("sign_in_refused", reason=why.message)

    async def _received(self, person: SignIn) -> tuple[UUID, UUID | None]:
        """Who it is, and the tenant that is theirs when there is only one."""
        places = list(self._register.places(person))
        return await self._register.user_of(person), (
            self._register.tenant_named(places[0]) if len(places) == 1 else None
        )
