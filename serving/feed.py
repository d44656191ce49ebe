"""Keeps in-process snapshots of database tables fresh: on notification, and by polling should one be missed.

One connection and one task serve all snapshots. While the database is away they simply grow old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog
from psycopg import AsyncConnection, Error, sql

RECONNECT_AFTER = timedelta(seconds=1)

log = structlog.get_logger()


class Snapshot(Protocol):
    """Something that can be read again whole."""

    channel: str  # the NOTIFY channel that announces a change
    poll_interval: timedelta

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read it again."""


class Feed:
    """The task that refreshes. `loaded` is set once every snapshot has been read at least once."""

    def __init__(self, database_url: str, snapshots: Sequence[Snapshot]) -> None:
        # SQLAlchemy writes the driver into the scheme, libpq does not know it.
        self._database_url = database_url.replace("postgresql+psycopg://", "postgresql://")
        self._snapshots = snapshots
        self.loaded = asyncio.Event()
        self.connected = False

    async def run(self) -> None:
        """For ever, until cancelled."""
        is_reported = False
        while True:
            try:
                await self._follow()
            except (Error, OSError) as error:
                if self.connected or not is_reported:
                    log.warning("database_away", error=str(error).strip())
                    is_reported = True
                self.connected = False
            except Exception:  # a defect in one snapshot must not stop the others: revoked keys would go on
                log.exception("snapshot_failed")
                self.connected = False
            await asyncio.sleep(RECONNECT_AFTER.total_seconds())

    async def _follow(self) -> None:
        async with await AsyncConnection.connect(
            self._database_url, autocommit=True, connect_timeout=5, options="-c timezone=UTC", keepalives_idle=10
        ) as connection:
            for snapshot in self._snapshots:
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(snapshot.channel)))
            # Due at once: whatever changed while nobody listened was announced to nobody.
            due = dict.fromkeys(self._snapshots, 0.0)
            while True:
                for snapshot in [snapshot for snapshot, at in due.items() if at <= time.monotonic()]:
                    # Noted before reading: a change that falls into the reading leads to another one.
                    due[snapshot] = time.monotonic() + snapshot.poll_interval.total_seconds()
                    await snapshot.refresh(connection)
                self.connected = True
                self.loaded.set()
                patience = max(0.0, min(due.values()) - time.monotonic())
                async for notification in connection.notifies(timeout=patience, stop_after=1):
                    due.update({s: 0.0 for s in self._snapshots if s.channel == notification.channel})
