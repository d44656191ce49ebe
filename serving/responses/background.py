"""Responses that run without a client, in this gateway: watched for a cancellation, and told to the store.

Whoever cancels writes a row; the gateway that runs the response looks once a second. A gateway that dies stops looking,
which the sweep notices. Like every request, they end with the gateway when its time of grace is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from serving.keys import KeyRecord
from serving.responses.store import Kept, ResponseStore
from serving.tokens.client import Client, Message

LOOK = timedelta(seconds=1)
END_RETRIES = (1, 2, 4, 8, 15)  # seconds; a database that is away for longer lets the sweep fail the response

log = structlog.get_logger()


class Nobody:
    """A caller that waits without listening, until it is told to leave."""

    def __init__(self) -> None:
        self._leave = asyncio.Event()
        self.client = Client({"headers": []}, self._receive, self._send)

    def leave(self) -> None:
        """What is still to come is not wanted."""
        self._leave.set()

    async def _receive(self) -> Message:
        await self._leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        pass


class Background:
    """What runs here now."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store
        self._running: dict[UUID, Nobody] = {}
        self._watch: asyncio.Task[None] | None = None
        self._withdrawals: set[asyncio.Task[None]] = set()  # the loop itself would not keep them alive

    @asynccontextmanager
    async def running(self, caller: KeyRecord, response_id: UUID) -> AsyncIterator[Nobody]:
        """The one who waits for a response as long as the block runs."""
        nobody = Nobody()
        self._running[response_id] = nobody
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look())
        try:
            await self._try(self._store.begin, caller.tenant_id, response_id)
            yield nobody
        finally:
            del self._running[response_id]

    async def end(self, caller: KeyRecord, kept: Kept) -> None:
        """Write down what became of it, with some patience for the database."""
        for pause in END_RETRIES:
            if await self._try(self._store.end, caller.tenant_id, kept):
                return
            await asyncio.sleep(pause)
        log.warning("background_response_lost", response=kept.response["id"])

    def withdraw(self, adding: asyncio.Task[None], caller: KeyRecord, kept: Kept) -> None:
        """`adding` took too long or failed, and its caller hears that nothing is kept: leave no row behind."""
        task = asyncio.get_running_loop().create_task(self._withdraw(adding, caller, kept))
        self._withdrawals.add(task)
        task.add_done_callback(self._withdrawals.discard)

    async def _withdraw(self, adding: asyncio.Task[None], caller: KeyRecord, kept: Kept) -> None:
        (error,) = await asyncio.gather(adding, return_exceptions=True)
        is_lost = isinstance(error, DBAPIError) and error.connection_invalidated  # perhaps after its commit
        if error is not None and not is_lost:
            return
        for pause in END_RETRIES:
            if await self._try(self._store.withdraw, caller.tenant_id, kept.id):
                return
            await asyncio.sleep(pause)
        log.warning("response_not_withdrawn", response=kept.response["id"])

    async def _look(self) -> None:
        try:
            while self._running:
                await asyncio.sleep(LOOK.total_seconds())
                await self._end_unwanted()
        finally:
            self._watch = None

    async def _end_unwanted(self) -> None:
        looked_at = dict(self._running)
        try:
            wanted = await asyncio.to_thread(self._store.still_wanted, looked_at)
        except SQLAlchemyError:
            return  # the database is away: nobody can cancel either
        for response_id, nobody in looked_at.items():
            if response_id not in wanted:
                nobody.leave()

    async def _try(self, action: Callable[..., None], *arguments: Any) -> bool:
        try:
            await asyncio.to_thread(action, *arguments)
        except SQLAlchemyError as error:
            log.warning("response_not_written", error=type(error).__name__)
            return False
        return True
