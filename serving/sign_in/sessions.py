"""Who is signed in: sessions in PostgreSQL, and in memory those in use, so that a request costs a hash and a look-up.

The first request of a session at a gateway asks the database. What ended or acts for another tenant is announced to all
gateways and read again within milliseconds; while the database is away, sessions in use go on, as keys do.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from psycopg import AsyncConnection
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from serving.identity.claims import SignIn
from serving.identity.permissions import Role
from studio import ids
from studio.db.sessions import tenant_scope, unit_of_work
from studio.errors import InvalidToken, ServiceUnavailable
from studio.sealing import Seal, Unreadable
from studio.tenants import audit_own

IDLE = timedelta(hours=2)
LONGEST = timedelta(hours=12)  # then the provider is asked anew, and with it the roles
TOUCH_AFTER = timedelta(minutes=1)
LINK_ISSUER = "urn:xpulink:signin-link"
AT_ONCE = 4  # look-ups of unknown cookies; a flood of them must not take all threads
_LENGTH = 43  # of 32 random bytes

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WebSession:
    """Somebody signed in in one browser."""

    hash: bytes
    id: UUID
    user_id: UUID
    person: SignIn
    origin: str  # `oidc` or `link`
    tenant: str | None  # the open one that was chosen, by slug
    sealed_id_token: bytes | None
    idle_until: datetime
    expires_at: datetime

    def holds_at(self, now: datetime) -> bool:
        """Whether it has neither run out nor been left alone too long."""
        return now < min(self.idle_until, self.expires_at)


class WebSessions:
    """One per process. A snapshot of `feed.py`: of the sessions that are in use here."""

    channel = "studio_sessions"
    poll_interval = timedelta(seconds=30)  # only a net below the notifications

    def __init__(self, database: Engine, seal: Seal) -> None:
        self._database = database
        self._seal = seal
        self._known: dict[bytes, WebSession] = {}
        self._touched: dict[bytes, datetime] = {}
        self._looking = asyncio.Semaphore(AT_ONCE)
        self._touching: set[asyncio.Task[None]] = set()

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read what is in use again; what has ended meanwhile is not among it."""
        if not self._known:
            return
        before = set(self._known)
        cursor = await connection.execute("select * from live_web_sessions(%s)", (list(before),))
        live = {bytes(row[0]): _session(*row) async for row in cursor}
        # One that was found while this was read is kept, and one that was ended does not come back.
        self._known = {
            hash: live.get(hash, one) for hash, one in self._known.items() if hash in live or hash not in before
        }
        self._touched = {hash: at for hash, at in self._touched.items() if hash in self._known}

    async def find(self, secret: str, now: datetime) -> WebSession:
        """The session of a cookie; InvalidToken when there is none, or none any more."""
        if len(secret) != _LENGTH:
            raise _ended()
        hash = _digest(secret)
        known = self._known.get(hash)
        if known is None or not known.holds_at(now):
            # It may be new, or another gateway has heard of it since.
            known = await self._look(hash)
            if known is None or not known.holds_at(now):
                self._known.pop(hash, None)
                raise _ended()
            self._known[hash] = known
        if now - self._touched.get(hash, now - TOUCH_AFTER) >= TOUCH_AFTER:
            self._touched[hash] = now
            task = asyncio.create_task(self._touch(hash, now + IDLE))
            self._touching.add(task)
            task.add_done_callback(self._touching.discard)
        return known

    async def start(
        self,
        person: SignIn,
        user_id: UUID,
        origin: str,
        tenant_id: UUID | None,
        now: datetime,
        *,
        id_token: str | None = None,
        provider_session: str | None = None,
    ) -> str:
        """A new session; the text of its cookie, which only the browser keeps."""
        secret, session_id = secrets.token_urlsafe(32), ids.uuid7()
        sealed = None
        if id_token is not None:
            sealed = self._seal.close(user_id, _place(_digest(secret)), id_token.encode())
        values = {
            "id": session_id,
            "hash": _digest(secret),
            "user": user_id,
            "origin": origin,
            "tenants": sorted(person.tenants),
            "roles": sorted(person.roles),
            "everywhere": sorted(person.everywhere),
            "tenant": tenant_id,
            "sid": provider_session,
            "id_token": sealed,
            "idle": now + IDLE,
            "ends": now + LONGEST,
            "actor": person.actor,
        }
        await self._do(
            "select start_web_session(:id, :hash, :user, :origin, cast(:tenants as text[]), cast(:roles as text[]),"
            " cast(:everywhere as text[]), cast(:tenant as uuid), :sid, cast(:id_token as bytea), :idle, :ends,"
            " :actor)",
            values,
        )
        return secret

    async def choose(self, session: WebSession, tenant_id: UUID) -> None:
        """Act for another tenant from now on, in all tabs."""
        await self._off_the_loop(self._choose, session, tenant_id)
        self._known.pop(session.hash, None)

    async def end(self, session: WebSession) -> str | None:
        """At once, here; within milliseconds everywhere. The ID token that it came from, for the provider."""
        self._known.pop(session.hash, None)
        await self._do("select end_web_session(:hash, :actor)", {"hash": session.hash, "actor": session.person.actor})
        self._known.pop(session.hash, None)  # found again by a request that was on its way
        if session.sealed_id_token is None:
            return None
        try:
            return self._seal.open(session.user_id, _place(session.hash), session.sealed_id_token).decode()
        except Unreadable:
            return None

    async def end_of_provider(self, issuer: str, subject: str | None, provider_session: str | None) -> None:
        """Everything that came from a session, or from all sessions of somebody, at the provider."""
        values = {"issuer": issuer, "subject": subject, "sid": provider_session}
        await self._do("select end_provider_sessions(:issuer, cast(:subject as text), cast(:sid as text))", values)
        self._known.clear()

    async def use_link(self, secret: str) -> SignIn:
        """Whom a one-time link signs in; InvalidToken for one that was used, is too old, or never was."""
        rows = await self._do("select * from use_signin_link(:hash)", {"hash": _digest(secret)})
        if not rows:
            raise InvalidToken("This link was used already, or is too old. Make another: `studio signin-link create`.")
        (row,) = rows
        # One person for each name, so that all usage of the same laptop hangs together.
        return _person(LINK_ISSUER, row.name, None, row.name, row.tenants, row.roles, row.everywhere)

    async def _look(self, hash: bytes) -> WebSession | None:
        async with self._looking:
            rows = await self._do("select * from live_web_sessions(:hashes)", {"hashes": [hash]})
        return _session(*rows[0]) if rows else None

    async def _touch(self, hash: bytes, until: datetime) -> None:
        try:
            await self._do("select touch_web_sessions(:hashes, :until)", {"hashes": [hash], "until": until})
        except ServiceUnavailable:
            self._touched.pop(hash, None)

    async def _do(self, statement: str, values: dict[str, Any]) -> list[Any]:
        return await self._off_the_loop(self._run, statement, values)

    async def _off_the_loop(self, work: Callable[..., list[Any]], *arguments: Any) -> list[Any]:
        try:
            return await asyncio.to_thread(work, *arguments)
        except SQLAlchemyError as error:
            log.warning("session_unknown", error=type(error).__name__)
            raise ServiceUnavailable(
                "Who you are cannot be looked up at the moment.", retry_after=timedelta(seconds=5)
            ) from error

    def _choose(self, session: WebSession, tenant_id: UUID) -> list[Any]:
        # In the scope of the tenant that is entered: its log says who came.
        with tenant_scope(self._database, tenant_id) as transaction:
            transaction.execute(
                text("select choose_web_tenant(:hash, :tenant)"), {"hash": session.hash, "tenant": tenant_id}
            )
            audit_own(transaction, session.person.actor, "session.tenant", ids.to_wire(ids.WEB_SESSION, session.id))
        return []

    def _run(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with unit_of_work(self._database) as session:
            return list(session.execute(text(statement), values).all())


def _session(
    hash: bytes,
    id: UUID,
    user_id: UUID,
    issuer: str,
    subject: str,
    email: str | None,
    name: str | None,
    origin: str,
    tenants: list[str],
    roles: list[str],
    everywhere: list[str],
    tenant: str | None,
    id_token: bytes | None,
    idle_until: datetime,
    expires_at: datetime,
) -> WebSession:
    person = _person(issuer, subject, email, name, tenants, roles, everywhere)
    sealed = None if id_token is None else bytes(id_token)
    return WebSession(bytes(hash), id, user_id, person, origin, tenant, sealed, idle_until, expires_at)


def _person(
    issuer: str,
    subject: str,
    email: str | None,
    name: str | None,
    tenants: list[str],
    roles: list[str],
    everywhere: list[str],
) -> SignIn:
    held, anywhere = (frozenset(map(Role, names)) for names in (roles, everywhere))
    return SignIn(issuer, subject, email, name, frozenset(tenants), held, anywhere)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _place(hash: bytes) -> bytes:
    return b"web session " + hash


def _ended() -> InvalidToken:
    return InvalidToken("You are signed out, or were left alone too long. Sign in again.", code="session_ended")
