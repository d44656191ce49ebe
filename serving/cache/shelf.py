"""Where entries are kept: in Valkey, sealed, each tenant's apart, bounded in bytes and time.

The name of an entry is a keyed hash of what it answers, and its content opens for its tenant and its name alone. While
Valkey is away nothing is found and nothing is kept. A connection of its own: large values must not stand before limits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from serving.limits.connection import Connection, ValkeyAway
from serving.limits.shared import RECONNECT_AFTER, Script
from studio.sealing import Seal, Unreadable

LARGEST_ENTRY: Final = 1024 * 1024  # bytes
LEFT_FREE: Final = "0.25"  # of the server's memory: limits are kept there, and refuse nothing for a cache
_FORMAT: Final = b"cache 1 "  # another one whenever what is kept is written in another way
_AT_ONCE: Final = 64  # entries in one reply, so that a large one never looks like silence
_LOOKED_AT_AT_ONCE: Final = 500

_STORE, _CLEAR = (Script(Path(__file__).parent / name) for name in ("store.lua", "clear.lua"))

log = structlog.get_logger()


class Shelf:
    """One gateway's way to the entries of all tenants. `run` keeps the connection."""

    def __init__(self, url: str | None, seal: Seal, most_bytes: int) -> None:
        """`most_bytes` of each tenant; 0, or no `url`: nothing is ever kept."""
        self._url = url if most_bytes else None
        self._seal = seal
        self._most_bytes = most_bytes
        self._connection: Connection | None = None

    @property
    def state(self) -> str:
        """For `/health/ready`: `on`, `away` while Valkey is, or `off` here."""
        return "off" if not self.is_used else "on" if self.is_connected else "away"

    @property
    def is_used(self) -> bool:
        """Whether this installation keeps anything at all."""
        return self._url is not None

    @property
    def is_connected(self) -> bool:
        """Whether anything can be found or kept at this moment."""
        return self._connection is not None

    def name(self, tenant_id: UUID, owner: UUID | None, what: bytes) -> str:
        """Of the entry that answers `what`. Another tenant's is another, and so is that of a key with a cache of its
        own (`owner`)."""
        return _part(owner) + self._seal.fingerprint(tenant_id, _FORMAT + what).hex()

    async def find(self, tenant_id: UUID, names: Sequence[str]) -> list[bytes | None]:
        """What is kept under each name; None for what is not."""
        connection = self._connection
        if connection is None:
            return [None] * len(names)
        calls = [
            connection.call("MGET", *(_entry(tenant_id, name) for name in names[start : start + _AT_ONCE]))
            for start in range(0, len(names), _AT_ONCE)
        ]
        try:
            found = [sealed for reply in await asyncio.gather(*calls) for sealed in reply]
        except ValkeyAway:
            return [None] * len(names)
        return [
            None if sealed is None else self._open(tenant_id, name, sealed)
            for name, sealed in zip(names, found, strict=True)
        ]

    def keep(self, tenant_id: UUID, name: str, content: bytes, ttl: timedelta) -> None:
        """Keep it under this name, instead of what was there. Nobody waits, and what does not fit is left out."""
        connection = self._connection
        sealed = self._seal.close(tenant_id, _context(name), content)
        if connection is None or len(sealed) > LARGEST_ENTRY:
            return
        connection.tell(
            *("EVALSHA", _STORE.hash, 3, _entry(tenant_id, name), _index(tenant_id), _sizes(tenant_id)),
            *(sealed, ttl // timedelta(milliseconds=1), name, _entry(tenant_id, ""), self._most_bytes, LEFT_FREE),
        )

    async def clear(self, tenant_id: UUID, owner: UUID | None, *, everything: bool = False) -> int:
        """Remove what the key `owner` has kept for itself, or what the others share (None), or all of the tenant; how
        many entries that were. ValkeyAway when it cannot be asked."""
        if self._connection is None:
            raise ValkeyAway("not connected")
        names = "*" if everything else f"{_part(owner)}*"
        total, cursor = 0, b"0"
        while True:
            cursor, removed = await self._connection.call(
                *("EVALSHA", _CLEAR.hash, 2, _index(tenant_id), _sizes(tenant_id)),
                *(_entry(tenant_id, ""), names, cursor, _LOOKED_AT_AT_ONCE),
            )
            total += int(removed)
            if cursor == b"0":
                return total

    async def run(self) -> None:
        """Connect, and connect again; for ever, until cancelled."""
        if self._url is None:
            return
        is_reported = False
        while True:
            try:
                connection = await Connection.open(self._url)
                try:
                    for script in (_STORE, _CLEAR):
                        await connection.call("SCRIPT", "LOAD", script.source)
                    self._connection = connection
                    is_reported = False
                    await asyncio.shield(connection.lost)
                finally:
                    self._connection = None
                    connection.close()
            except (ValkeyAway, OSError) as error:
                if not is_reported:
                    log.warning("cache_away", error=str(error))
                    is_reported = True
            await asyncio.sleep(RECONNECT_AFTER.total_seconds())

    def _open(self, tenant_id: UUID, name: str, sealed: bytes) -> bytes | None:
        with contextlib.suppress(Unreadable):  # the secret has changed: it is as good as gone
            return self._seal.open(tenant_id, _context(name), sealed)
        return None


def _part(owner: UUID | None) -> str:
    """What the names begin with of entries that one key keeps for itself, or that the others share."""
    return "shared:" if owner is None else f"{owner.hex}:"


def _context(name: str) -> bytes:
    return b"cache" + name.encode()


# The braces keep a tenant's keys on one node of a cluster.


def _entry(tenant_id: UUID, name: str) -> str:
    return f"studio:{{{tenant_id.hex}}}:cached:{name}"


def _index(tenant_id: UUID) -> str:
    return f"studio:{{{tenant_id.hex}}}:cache"


def _sizes(tenant_id: UUID) -> str:
    return f"studio:{{{tenant_id.hex}}}:cache:sizes"
