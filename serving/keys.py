"""Who calls: API keys from a snapshot in process, so that a request costs one hash and one look-up.

The snapshot keeps serving when the database is away. `feed.py` refreshes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from psycopg import AsyncConnection

from studio import api_keys
from studio.errors import InvalidApiKey, PermissionDenied, ServiceUnavailable

Scope = Literal["inference", "usage", "admin"]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A live key and what it allows."""

    id: UUID
    prefix: str
    tenant_id: UUID
    tenant_slug: str
    scopes: frozenset[str]
    expires_at: datetime | None


class Keys:
    """Every live key of every tenant, by hash."""

    channel = "studio_keys"
    poll_interval = timedelta(seconds=30)  # only a net below the notifications, which arrive within milliseconds

    def __init__(self) -> None:
        self._by_hash: dict[bytes, KeyRecord] | None = None  # before the first reading nobody can be told apart

    async def refresh(self, connection: AsyncConnection) -> None:
        """Replace the snapshot whole, so that a revoked key is gone with it."""
        cursor = await connection.execute(
            "select secret_hash, id, prefix, tenant_id, tenant_slug, scopes, expires_at from api_key_snapshot()"
        )
        self._by_hash = {
            bytes(secret_hash): KeyRecord(id, prefix, tenant_id, slug, frozenset(scopes), expires_at)
            async for secret_hash, id, prefix, tenant_id, slug, scopes, expires_at in cursor
        }

    def authenticate(self, authorization: str | None, now: datetime) -> KeyRecord:
        """The key behind an `Authorization` header."""
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise InvalidApiKey(
                "You didn't provide an API key. Send it in the header `Authorization: Bearer YOUR_KEY`."
            )
        if not api_keys.is_well_formed(text):
            raise InvalidApiKey("Incorrect API key provided: it is cut or mistyped (its checksum does not fit).")
        if self._by_hash is None:
            # Not 401: a client with a good key would take that for final.
            raise ServiceUnavailable("The gateway is starting.", retry_after=timedelta(seconds=1))
        record = self._by_hash.get(api_keys.digest(text))
        if record is None or (record.expires_at is not None and record.expires_at <= now):
            raise InvalidApiKey("Incorrect API key provided: it is unknown, expired or revoked.")
        return record


def require(record: KeyRecord, scope: Scope) -> KeyRecord:
    """The same key, once it has shown the scope."""
    if scope not in record.scopes:
        raise PermissionDenied(f"This API key lacks the scope `{scope}`. Use a key that has it.")
    return record
