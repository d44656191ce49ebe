"""One connection to Valkey on which all requests of a gateway share the way: commands of one turn of the event loop
leave in one write, replies come back in their order. A pool would cost ten times as much CPU (benchmarks/limits.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Self, cast
from urllib.parse import unquote, urlsplit

import libvalkey

from serving.authorities import client_tls

Word = bytes | str | int

# A Valkey that is there answers within a millisecond. One that hangs costs each request on its way this once; then
# the connection is given up. Shorter would take a busy machine for a dead one.
PATIENCE_SECONDS = 0.25
_SECOND_LOOK_SECONDS = 0.02
CONNECT_SECONDS = 2.0


class ValkeyAway(Exception):
    """No reply, and none will come on this connection. What was asked may have been done or not."""


class ValkeyRefused(ValkeyAway):
    """An error for a reply: out of memory, a read-only replica, a script that is not there."""


class Connection(asyncio.Protocol):
    """Open until `lost` is done. `open` also names user and database."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = libvalkey.Reader(notEnoughData=_INCOMPLETE)
        self._waiting: deque[asyncio.Future[Any] | None] = deque()
        self._unsent: list[bytes] = []
        self._answered = 0  # replies so far
        self._is_watched = False
        self.lost: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and sign in. ValkeyAway or OSError."""
        parts = urlsplit(url)
        tls = client_tls() if parts.scheme in ("rediss", "valkeys") else None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                cls, parts.hostname or "127.0.0.1", parts.port or 6379, ssl=tls
            )
            try:
                if parts.password is not None:
                    user = unquote(parts.username or "") or "default"
                    await connection.call("AUTH", user, unquote(parts.password))
                if database := parts.path.strip("/"):
                    await connection.call("SELECT", database)
            except BaseException:
                connection.close()
                raise
        return connection

    def call(self, *words: Word) -> asyncio.Future[Any]:
        """Send a command; the future is its reply, ValkeyRefused or ValkeyAway."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._send(words, reply)
        return reply

    def tell(self, *words: Word) -> None:
        """Send a command whose reply nobody waits for."""
        self._send(words, None)

    def close(self) -> None:
        """At once."""
        self._transport.abort()

    def _send(self, words: tuple[Word, ...], reply: asyncio.Future[Any] | None) -> None:
        if self.lost.done():
            if reply is not None:
                reply.set_exception(ValkeyAway("the connection is lost"))
            return
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(libvalkey.pack_command(words))
        self._waiting.append(reply)
        if not self._is_watched:
            self._watch()

    def _flush(self) -> None:
        if not self.lost.done():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    # One timer for all commands on their way, not one for each.

    def _watch(self) -> None:
        self._is_watched = True
        self._loop.call_later(PATIENCE_SECONDS, self._look, self._answered, False)

    def _look(self, answered: int, is_second: bool) -> None:
        self._is_watched = False
        if self.lost.done() or not self._waiting:
            return
        if self._answered != answered:
            self._watch()
        elif is_second:
            self.close()
        else:
            # An event loop that was late itself must not take that for Valkey's silence: it reads once more.
            self._is_watched = True
            self._loop.call_later(_SECOND_LOOK_SECONDS, self._look, answered, True)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._answered += 1
                waiting = self._waiting.popleft()
                if waiting is None or waiting.done():
                    continue
                if isinstance(reply, libvalkey.ReplyError):
                    waiting.set_exception(ValkeyRefused(str(reply)))
                else:
                    waiting.set_result(reply)
        except libvalkey.ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for waiting in self._waiting:
            if waiting is not None and not waiting.done():
                waiting.set_exception(ValkeyAway("the connection was lost"))
        self._waiting.clear()


_INCOMPLETE = object()
