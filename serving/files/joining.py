"""How many uploads one process joins at once. Each reads and writes a whole file: more at once are no faster, and would
take the threads and the connections of everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

from studio.errors import ServiceUnavailable

MOST_AT_ONCE = 2
PATIENCE = timedelta(seconds=10)  # until a request's turn comes

Result = TypeVar("Result")


class Joiners:
    """Threads of their own, and those who wait for one without holding any."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="joins")
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def run(self, join: Callable[[], Result]) -> Result:
        """What `join` returns; ServiceUnavailable when others take too long."""
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await self._turns.acquire()
        except TimeoutError as error:
            raise ServiceUnavailable(
                "Other uploads are being completed. Nothing is lost.",
                retry_after=timedelta(seconds=5),
            ) from error
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, join)
        finally:
            self._turns.release()
