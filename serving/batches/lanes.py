"""Lanes: how many lines may be under way at once, by the variant whose replicas answer. No I/O."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

LOOK_AGAIN = timedelta(seconds=0.5)  # replicas come and go without telling us


class Lanes:
    """Counts lines in flight, and lines that wait for their turn."""

    def __init__(self, room_for: Callable[[str], int]) -> None:
        self._room_for = room_for  # lines that the ready replicas of a variant take at once
        self._in_flight: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._freed = asyncio.Event()

    def has_room(self, variant_id: str) -> bool:
        """Whether another shard would find work to do at once."""
        busy = self._in_flight[variant_id] + self._waiting[variant_id]
        return busy < self._room_for(variant_id)

    def expect(self, variant_id: str, lines: int) -> None:
        """Announce lines that will want to enter; negative when they will not after all."""
        self._waiting[variant_id] += lines

    async def enter(self, variant_id: str, is_over: Callable[[], bool]) -> bool:
        """Wait for a turn of an announced line; False when `is_over` came true before."""
        while not is_over():
            if self._in_flight[variant_id] < self._room_for(variant_id):
                self._waiting[variant_id] -= 1
                self._in_flight[variant_id] += 1
                return True
            self._freed.clear()
            try:
                await asyncio.wait_for(self._freed.wait(), LOOK_AGAIN.total_seconds())
            except TimeoutError:
                continue
        return False

    def leave(self, variant_id: str) -> None:
        """A line is answered."""
        self._in_flight[variant_id] -= 1
        self._freed.set()
