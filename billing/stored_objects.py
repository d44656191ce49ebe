"""What the rows of files and adapters say is stored, beside what the object store has.

Billed is by rows (`storage.py`): an object that is gone, or is of another size, would be billed and not be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from studio.db.jobs import Adapter, File
from studio.objects import Bucket, ObjectStore


@dataclass(frozen=True, slots=True)
class NotAsStored:
    """A row and its object. `stored_bytes` None: there is no object."""

    bucket: str
    tenant_id: UUID
    key: str
    billed_bytes: int
    stored_bytes: int | None


def not_as_stored(session: Session, store: ObjectStore, now: datetime) -> list[NotAsStored]:
    """Rows of what is kept now whose object is missing or of another size; an adapter's weights lie under its prefix.

    The rows are read before the objects, and once more what differs: what is deleted meanwhile is no finding.
    """
    found = _compared(session, store, now)
    if not found:
        return []
    kept = {(row.bucket, row.key) for row in _kept(session, now)}
    return [one for one in found if (one.bucket, one.key) in kept]


@dataclass(frozen=True, slots=True)
class _Row:
    bucket: Bucket
    tenant_id: UUID
    key: str
    size_bytes: int


def _kept(session: Session, now: datetime) -> list[_Row]:
    files = select(File.tenant_id, File.object_key, File.size_bytes).where(
        File.deleted_at.is_(None), File.expires_at.is_(None) | (File.expires_at > now)
    )
    adapters = select(Adapter.tenant_id, Adapter.object_prefix, Adapter.size_bytes).where(Adapter.deleted_at.is_(None))
    return [
        *(_Row(Bucket.FILES, *row) for row in session.execute(files).tuples()),
        *(_Row(Bucket.ADAPTERS, *row) for row in session.execute(adapters).tuples()),
    ]


def _compared(session: Session, store: ObjectStore, now: datetime) -> list[NotAsStored]:
    rows = _kept(session, now)
    sizes = {one.key: one.size_bytes for one in store.under(Bucket.FILES, "")} if rows else {}
    found = []
    for row in rows:
        if row.bucket == Bucket.FILES:
            stored = sizes.get(row.key)
        else:
            objects = store.under(Bucket.ADAPTERS, row.key)
            stored = max((one.size_bytes for one in objects), default=None)  # the weights; the rest describes them
        if stored != row.size_bytes:
            found.append(NotAsStored(row.bucket, row.tenant_id, row.key, row.size_bytes, stored))
    return found
