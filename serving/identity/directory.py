"""Which tenants there are, and which roles operators have granted: a snapshot, as of keys. `feed.py` refreshes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID

from psycopg import AsyncConnection

from serving.identity.permissions import Role

Places = Mapping[UUID | None, AbstractSet[Role]]  # by tenant; None: everywhere

_NOWHERE: Places = MappingProxyType({})


class Directory:
    """Replaced whole, so that what is revoked is gone with it."""

    channel = "studio_identity"
    poll_interval = timedelta(seconds=30)  # only a net below the notifications

    def __init__(self) -> None:
        self._ids: dict[str, UUID] = {}
        self._slugs: dict[UUID, str] = {}
        self._granted: dict[tuple[str, str], Places] = {}

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read it again."""
        tenants = await connection.execute("select slug, id from open_tenants()")
        ids = {slug: id async for slug, id in tenants}
        slugs = {id: slug for slug, id in ids.items()}
        granted: dict[tuple[str, str], defaultdict[UUID | None, set[Role]]] = {}
        rows = await connection.execute("select issuer, subject, tenant_id, role from granted_memberships()")
        async for issuer, subject, tenant_id, role in rows:
            if tenant_id is None or tenant_id in slugs:  # it may have been closed between the two readings
                granted.setdefault((issuer, subject), defaultdict(set))[tenant_id].add(Role(role))
        self._ids, self._slugs, self._granted = ids, slugs, dict(granted)

    def tenant_named(self, slug: str) -> UUID | None:
        """The open tenant of that name."""
        return self._ids.get(slug)

    def slug_of(self, tenant_id: UUID) -> str:
        """How an open tenant is called."""
        return self._slugs[tenant_id]

    def granted(self, issuer: str, subject: str) -> Places:
        """What operators have granted to somebody, whatever the token says."""
        return self._granted.get((issuer, subject), _NOWHERE)
