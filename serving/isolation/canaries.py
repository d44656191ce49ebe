"""Two tenants that exist to be probed. They are ours, so nothing of them is ever billed; their keys live for a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Engine, func, select, text

from studio import api_keys, ids
from studio.db.sessions import unit_of_work

STRANGER, OWNER = "isolation-canary-a", "isolation-canary-b"


@dataclass(frozen=True, slots=True)
class Canary:
    """One of them, with its key of tonight."""

    slug: str
    tenant_id: UUID
    key_id: UUID
    key: str = field(repr=False)


@contextmanager
def canaries(worker: Engine) -> Iterator[tuple[Canary, Canary]]:
    """Who tries, and whose things are tried. All their keys end with the block; should it be killed, within an hour."""
    try:
        yield _open(worker, STRANGER), _open(worker, OWNER)
    finally:
        with unit_of_work(worker) as session:
            session.execute(select(func.close_canaries()))


def _open(worker: Engine, slug: str) -> Canary:
    minted, key_id = api_keys.mint(), ids.uuid7()
    values = {"slug": slug, "id": key_id, "prefix": minted.prefix, "hash": minted.secret_hash}
    with unit_of_work(worker) as session:
        tenant_id: UUID = session.execute(text("select open_canary(:slug, :id, :prefix, :hash)"), values).scalar_one()
    return Canary(slug, tenant_id, key_id, minted.text)
