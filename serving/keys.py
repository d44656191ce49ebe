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

Scope = Literal[
    "inference", "usage", "account", "keys", "own_keys", "admin"
]  # of people the permissions of their roles


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A live key and what it allows; or a person in a tenant, by the key that stands for them there."""

    id: UUID
    prefix: str
    tenant_id: UUID
    tenant_slug: str
    scopes: frozenset[str]
    expires_at: datetime | None
    models: frozenset[str] | None = None  # names as in `/v1/models`; None: all
    endpoints: frozenset[str] | None = None  # paths; None: all
    user: str | None = None  # who signed in; None: it is the key itself that was shown
    own_cache: bool = False  # shares no cache with other keys of its tenant

    @property
    def actor(self) -> str:
        """Who did it, in the audit log."""
        return self.user or self.prefix

    @property
    def cache_owner(self) -> UUID | None:
        """Within the tenant, whose its caches are; None: everybody's."""
        return self.id if self.own_cache else None


class Keys:
    """Every live key of every tenant, by hash."""

    channel = "studio_keys"
    poll_interval = timedelta(seconds=30)  # only a net below the notifications, which arrive within milliseconds

    def __init__(self) -> None:
        self._by_hash: dict[bytes, KeyRecord] | None = None  # before the first reading nobody can be told apart
        self._personal: dict[UUID, KeyRecord] = {}

    async def refresh(self, connection: AsyncConnection) -> None:
        """Replace the snapshot whole, so that a revoked key is gone with it."""
        cursor = await connection.execute(
            "select secret_hash, is_personal, id, prefix, tenant_id, tenant_slug, scopes, expires_at, own_cache,"
            " models, endpoints"
            " from api_key_snapshot() join key_permissions() using (id)"
        )
        by_hash: dict[bytes, KeyRecord] = {}
        personal: dict[UUID, KeyRecord] = {}
        async for secret_hash, is_personal, id, prefix, tenant_id, slug, scopes, expires_at, own, *names in cursor:
            models, endpoints = map(_names, names)
            record = KeyRecord(
                *(id, prefix, tenant_id, slug, frozenset(scopes), expires_at, models, endpoints), own_cache=own
            )
            if is_personal:
                personal[id] = record
            else:
                by_hash[bytes(secret_hash)] = record
        self._by_hash, self._personal = by_hash, personal

    def personal(self, id: UUID) -> KeyRecord | None:
        """The key that stands for somebody who signed in; None when it was revoked, or is not read yet."""
        return self._personal.get(id)

    def authenticate(self, authorization: str | None, now: datetime) -> KeyRecord:
        """The key behind an `Authorization` header."""
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise InvalidApiKey(
                "You didn't provide an API key. Send it in the header `Authorization: Bearer YOUR_KEY`."
            )
        if not api_keys.is_well_formed(text):
            raise InvalidApiKey(
                "Incorrect API key provided: it is cut or mistyped (its checksum does not fit). Copy it again."
            )
        if self._by_hash is None:
            # Not 401: a client with a good key would take that for final.
            raise ServiceUnavailable("The gateway is starting.", retry_after=timedelta(seconds=1))
        record = self._by_hash.get(api_keys.digest(text))
        if record is None:
            raise InvalidApiKey(
                "Incorrect API key provided: it is unknown, expired or revoked. Use another, or make a new one."
            )
        if record.expires_at is not None and record.expires_at <= now:
            raise InvalidApiKey(
                f"This API key expired at {record.expires_at:%Y-%m-%d %H:%M:%S %Z}. Use another, or make a new one."
            )
        return record


def require(record: KeyRecord, scope: Scope) -> KeyRecord:
    """The same key, once it has shown the scope."""
    if scope not in record.scopes:
        if record.user is not None:
            raise PermissionDenied(
                f"Your role in the tenant `{record.tenant_slug}` does not include `{scope}`. Ask its owner for one that"
                " does."
            )
        raise PermissionDenied(f"This API key lacks the scope `{scope}`. Use a key that has it.")
    return record


def require_endpoint(record: KeyRecord, path: str) -> None:
    """PermissionDenied for a key that is confined to other endpoints."""
    if not covers(record.endpoints, path):
        raise PermissionDenied(
            f"This API key may not call `{path}`, only {', '.join(sorted(record.endpoints or ()))}. Use a key that may."
        )


def covers(endpoints: frozenset[str] | None, path: str) -> bool:
    """Whether a key that is confined to `endpoints` may call `path`. What is named covers what lies below it."""
    return endpoints is None or any(path == one or path.startswith(f"{one}/") for one in endpoints)


def require_model(record: KeyRecord, model: str) -> None:
    """PermissionDenied for a key that is confined to other models."""
    if record.models is None or model in record.models:
        return
    raise PermissionDenied(
        f"This API key may not use the model `{model}`, only {', '.join(sorted(record.models))}. Use one of these, or a"
        " key that may.",
        param="model",
    )


def _names(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
