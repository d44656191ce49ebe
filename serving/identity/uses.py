"""When each key was last used: noted in memory by every request, written in the background once a minute per key."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from studio.db.sessions import unit_of_work

LOOK = timedelta(seconds=1)
NOT_AGAIN_WITHIN = timedelta(minutes=1)

log = structlog.get_logger()


class KeyUses:
    """What is not written yet when the process is killed is lost: at most a minute of a date that is for people."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._used_at: dict[UUID, datetime] = {}  # since it was last written
        self._written: dict[UUID, float] = {}

    def note(self, key_id: UUID, now: datetime) -> None:
        """On the hot path: one entry in a dict."""
        self._used_at[key_id] = now

    async def run(self) -> None:
        """For ever, until cancelled. While the database is away, what was noted waits."""
        is_away = False
        while True:
            await asyncio.sleep(LOOK.total_seconds())
            due_since = time.monotonic() - NOT_AGAIN_WITHIN.total_seconds()
            due = {id: at for id, at in self._used_at.items() if self._written.get(id, due_since) <= due_since}
            if not due:
                continue
            try:
                await asyncio.to_thread(self._write, due)
            except SQLAlchemyError as error:
                if not is_away:
                    log.warning("key_uses_not_written", error=type(error).__name__)
                is_away = True
                continue
            is_away = False
            for id, at in due.items():
                self._written[id] = time.monotonic()
                if self._used_at[id] == at:
                    del self._used_at[id]

    def _write(self, uses: dict[UUID, datetime]) -> None:
        with unit_of_work(self._database) as session:
            session.execute(text("select record_key_uses(:keys, :at)"), {"keys": list(uses), "at": list(uses.values())})
