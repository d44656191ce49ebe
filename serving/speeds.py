"""How fast each variant was in the last day, over streams of all tenants: figures only, never over fewer than twenty.

The database computes them at most once in `AGAIN_AFTER` for each gateway, in the background of whoever asks: nobody
waits, and what is shown says until when it was measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from studio import clock
from studio.db.sessions import unit_of_work

WINDOW = timedelta(hours=24)
FEWEST = 20  # the function in the database allows no less
AGAIN_AFTER = timedelta(seconds=60)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one variant."""

    requests: int
    ttft_ms_p50: float
    ttft_ms_p95: float
    tokens_per_second_p50: float | None  # None: no answer was longer than a token
    latest_at: datetime


class Speeds:
    """One per process."""

    def __init__(self, database: Engine, again_after: timedelta = AGAIN_AFTER) -> None:
        self._database = database
        self._again_after = again_after
        self._known: Mapping[str, Speed] = MappingProxyType({})
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def now(self) -> Mapping[str, Speed]:
        """By variant; what is known. Begins to read again when that is old. To be called in the event loop."""
        if self._reading is None and time.monotonic() - self._read_at > self._again_after.total_seconds():
            self._reading = asyncio.create_task(self._read())
        return self._known

    async def _read(self) -> None:
        try:
            self._known = await asyncio.to_thread(self._measured)
        except SQLAlchemyError as error:
            log.warning("speeds_not_read", error=type(error).__name__)
        finally:
            self._read_at = time.monotonic()
            self._reading = None

    def _measured(self) -> Mapping[str, Speed]:
        with unit_of_work(self._database) as session:
            session.execute(text("set local statement_timeout = '5s'"))
            rows = session.execute(
                text("select * from measured_speeds(:since, :fewest)"),
                {"since": clock.now() - WINDOW, "fewest": FEWEST},
            )
            return {
                row.variant_id: Speed(
                    row.requests, row.ttft_ms_p50, row.ttft_ms_p95, row.tokens_per_second_p50, row.latest_at
                )
                for row in rows
            }
