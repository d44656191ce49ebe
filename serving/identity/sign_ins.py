"""People on their first sight and once a minute after that: written down, with what their token says.

The first time is waited for, since it makes the key that a person's usage hangs on; later ones happen beside the
requests, and while the database is away whoever is known goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import orjson
import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from serving.identity.claims import SignIn
from serving.identity.permissions import Role
from studio.db.sessions import unit_of_work
from studio.errors import ServiceUnavailable

AGAIN_AFTER = timedelta(minutes=1)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody who is written down. The key is None for a person who acts for no tenant."""

    user_id: UUID
    key_id: UUID | None
    prefix: str | None
    is_ended: bool  # an operator has revoked the key, and with it the person's way in
    claimed: bytes
    written_at: float


class SignIns:
    """One per process."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._known: dict[tuple[str, str, UUID | None], Known] = {}
        self._writing: set[asyncio.Task[Known]] = set()

    async def known(
        self, person: SignIn, tenant_id: UUID | None, claimed: Iterable[tuple[UUID | None, Role]], *, anew: bool = False
    ) -> Known:
        """The person in that tenant. `claimed`: all roles of the token. `anew`: ask, whatever is remembered."""
        who = (person.issuer, person.subject, tenant_id)
        said = orjson.dumps(sorted((str(tenant) if tenant else "", str(role)) for tenant, role in claimed))
        known = self._known.get(who)
        if known is None or known.claimed != said or anew:
            try:
                return await asyncio.to_thread(self._write, person, tenant_id, said)
            except SQLAlchemyError as error:
                if known is None or anew:  # anew: what is remembered is in doubt
                    raise ServiceUnavailable(
                        "You cannot be signed in at the moment.", retry_after=timedelta(seconds=5)
                    ) from error
                return known
        if time.monotonic() - known.written_at > AGAIN_AFTER.total_seconds() and not self._writing:
            task = asyncio.create_task(asyncio.to_thread(self._write, person, tenant_id, said))
            self._writing.add(task)
            task.add_done_callback(self._written)
        return known

    def _written(self, task: asyncio.Task[Known]) -> None:
        self._writing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("sign_in_not_written", error=type(error).__name__)

    def _write(self, person: SignIn, tenant_id: UUID | None, said: bytes) -> Known:
        claimed = [{"tenant_id": tenant or None, "role": role} for tenant, role in orjson.loads(said)]
        with unit_of_work(self._database) as session:
            row = session.execute(
                text(
                    "select * from record_sign_in(:issuer, :subject, :email, :name, cast(:tenant as uuid),"
                    " cast(:claimed as jsonb))"
                ),
                {
                    "issuer": person.issuer,
                    "subject": person.subject,
                    "email": person.email,
                    "name": person.name,
                    "tenant": tenant_id,
                    "claimed": orjson.dumps(claimed).decode(),
                },
            ).one()
        known = Known(row.user_id, row.api_key_id, row.prefix, bool(row.is_ended), said, time.monotonic())
        self._known[person.issuer, person.subject, tenant_id] = known
        return known
