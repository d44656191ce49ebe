"""Claims on idempotent requests, made as a gateway makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.idempotency.store import Store
from serving.keys import KeyRecord
from studio.db.sessions import engine_for
from studio.sealing import Seal
from tests.serving.conftest import House

CONTENT_KEY = b"another secret of the tests"  # of GatewayProcess


@contextmanager
def claims_of(house: House) -> Iterator[tuple[Store, KeyRecord]]:
    """The table as all gateways see it, and the house's key as a caller."""
    database = engine_for(house.database.url("gateway"))
    caller = KeyRecord(house.key.id, house.key.prefix, house.tenant_id, "acme", frozenset({"inference"}), None)
    yield Store(database, Seal(CONTENT_KEY)), caller
    database.dispose()
