"""HTTP/1.1 to engines: connections that are kept, and answers as they arrive. Who is asked for what is `engines.py`.

A client of our own, since a general one was the largest part of a request's CPU, and since metering asks for what those
hide: to end only our half of a connection, and to read all that arrived before a connection broke.
It knows what engines speak and no more: no redirects, compression or cookies.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from serving.authorities import client_tls

CONNECT = timedelta(seconds=5)
# uvicorn, which engines run on, closes idle connections after 5 s: reusing one at that moment fails.
IDLE = timedelta(seconds=4)
MOST_UNREAD_BYTES = 128 * 1024  # of an answer, before its engine has to wait for the caller

_FRAMED_BY = (b"content-length", b"transfer-encoding")


class NotReached(Exception):
    """There was no connection, so nothing was asked."""


class BrokenOff(Exception):
    """The connection ended, or stopped making sense, before the answer was complete."""


class _Place(NamedTuple):
    """Where a URL leads."""

    host: str
    port: int
    tls: bool
    host_header: str
    base_path: str


class Connections:
    """All of this process, by the URL of the engine. Every call may be cancelled."""

    def __init__(self) -> None:
        self._idle: defaultdict[str, deque[_Connection]] = defaultdict(deque)  # the longest unused first
        self._open: set[_Connection] = set()

    async def ask(
        self,
        method: Literal["GET", "POST"],
        url: str,
        path: str,
        body: bytes,
        authorization: str | None,
        silence: timedelta,
        *,
        anew: bool = False,
    ) -> Response:
        """The answer, whose status has arrived. `anew`: not on a connection that was used before.

        NotReached, BrokenOff, or TimeoutError when the engine says nothing for as long as `silence`.
        """
        place = _place(url)
        permission = "" if authorization is None else f"authorization: {authorization}\r\n"
        head = (
            f"{method} {place.base_path}{path} HTTP/1.1\r\nhost: {place.host_header}\r\n{permission}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection = None if anew else self._kept(url)
        response = (connection or await self._connect(url, place)).ask(head.encode() + body, silence)
        try:
            await response.begin()
        except BaseException:
            response.close()
            raise
        return response

    async def close(self) -> None:
        """All of them, at once."""
        for connection in tuple(self._open):
            connection.abort()
        await asyncio.sleep(0)  # the loop closes their sockets in its next turn

    async def _connect(self, url: str, place: _Place) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT.total_seconds()):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, url), place.host, place.port, ssl=client_tls() if place.tls else None
                )
        except OSError as error:  # TimeoutError and what TLS objects to are such, too
            raise NotReached(str(error) or type(error).__name__) from error
        return connection

    def _kept(self, url: str) -> _Connection | None:
        idle = self._idle[url]
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
            connection.abort()
        return None

    # What connections say of themselves.

    def opened(self, connection: _Connection) -> None:
        """It can be asked."""
        self._open.add(connection)

    def free(self, connection: _Connection) -> None:
        """Its answer is complete, and it may be asked again."""
        idle = self._idle[connection.url]
        idle.append(connection)
        while idle and not idle[0].is_usable:
            idle.popleft().abort()

    def lost(self, connection: _Connection) -> None:
        """It is gone."""
        self._open.discard(connection)
        if connection in (idle := self._idle[connection.url]):
            idle.remove(connection)
        if not idle:
            del self._idle[connection.url]


class Response:
    """One answer: its status, then its body as it arrives, whatever comes after it."""

    def __init__(self, connection: _Connection) -> None:
        self.status = 0  # until it has begun
        self.is_complete = False
        self.unread_bytes = 0
        self._connection = connection
        self._unread: list[bytes] = []
        self._failure: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None

    async def begin(self) -> None:
        """Until the status is there."""
        while not self.status:
            await self._wait()

    async def more(self, take: Callable[[bytes], bool] | None = None) -> bytes:
        """All that has arrived since, waited for; empty at the end. BrokenOff or TimeoutError after the last byte.

        What arrives while this waits is offered to `take` first, without waking the waiting task. If it returns True,
        the bytes are its own and the wait goes on.
        """
        while not self._unread:
            if self.is_complete:
                return b""
            self._take = take
            await self._wait()
        self._take = None
        arrived = self._arrived()
        self._unread, self.unread_bytes = [], 0
        self._connection.resume()
        return arrived

    async def read(self) -> bytes:
        """The whole body."""
        parts = [await self.more()]
        while not self.is_complete or self._unread:
            parts.append(await self.more())
        return b"".join(parts)

    def half_close(self) -> bool:
        """End our half of the connection and go on reading. False where a connection has no halves (TLS)."""
        return self._connection.half_close()

    def close(self) -> None:
        """End the connection, unless the answer is complete: then it may have its next request already."""
        if not self.is_complete:
            self._connection.abort()

    # What the connection says.

    def arrived(self, data: bytes) -> None:
        """A part of the body."""
        self._unread.append(data)
        self.unread_bytes += len(data)

    def failed(self, failure: Exception) -> None:
        """Nothing more will come."""
        self._failure = failure
        self.wake()

    def wake(self) -> None:
        """Something has changed."""
        if self._news is None or self._news.done():
            return
        if self._take is not None and self._unread and not self.is_complete and self._take(self._arrived()):
            self._unread.clear()
            self.unread_bytes = 0
        else:
            self._news.set_result(None)

    def _arrived(self) -> bytes:
        return self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._news = asyncio.get_running_loop().create_future()
        await self._news


class _Connection(asyncio.Protocol):
    """One connection: one request after the other."""

    def __init__(self, owner: Connections, url: str) -> None:
        self.url = url
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None  # None: idle
        self._is_framed = False  # whether the end of the answer shows in it; otherwise the connection ends with it
        self._is_ending = False  # our half is closed: never again in the pool
        self._is_paused = False
        self._heard_at = 0.0
        self._silence = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        """Whether an idle connection may be asked."""
        return not self._transport.is_closing() and self._loop.time() - self._heard_at < IDLE.total_seconds()

    def ask(self, request: bytes, silence: timedelta) -> Response:
        """Send a request whose answer may pause for as long as `silence`."""
        self._response = response = Response(self)
        self._heard_at, self._silence = self._loop.time(), silence.total_seconds()
        self._timer = self._loop.call_later(self._silence, self._look)
        if self._transport.is_closing():
            self._let_go(BrokenOff("the engine closed the connection"))
        else:
            self._transport.write(request)
        return response

    def half_close(self) -> bool:
        """End our half. False where there are no halves."""
        if self._response is None or not self._transport.can_write_eof():
            return False
        self._is_ending = True
        self._transport.write_eof()
        return True

    def resume(self) -> None:
        """What has arrived was taken."""
        if self._is_paused:
            self._is_paused = False
            self._heard_at = self._loop.time()
            self._transport.resume_reading()

    def abort(self) -> None:
        """At once."""
        self._transport.abort()

    def _look(self) -> None:
        """One timer for each request, however many chunks its answer has."""
        left = self._silence - (self._loop.time() - self._heard_at)
        if self._is_paused:
            left = self._silence
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._end(TimeoutError("the engine said nothing for too long"))

    def _end(self, failure: Exception) -> None:
        self._transport.abort()
        self._let_go(failure)

    def _let_go(self, failure: Exception | None) -> None:
        response, self._response = self._response, None
        if self._timer is not None:
            self._timer.cancel()
        if response is not None:
            if failure is None:
                response.is_complete = True
                response.wake()
            else:
                response.failed(failure)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._heard_at = self._loop.time()
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self._transport.abort()  # nothing was asked
            return
        self._heard_at = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._end(BrokenOff(f"this is no HTTP: {error}"))
            return
        response.wake()
        if response.unread_bytes > MOST_UNREAD_BYTES and not response.is_complete:
            self._is_paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        response = self._response
        ends_here = response is not None and response.status and not self._is_framed and exc is None
        self._let_go(None if ends_here else BrokenOff(str(exc or "the engine closed the connection")))
        self._owner.lost(self)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._is_framed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in _FRAMED_BY:
            self._is_framed = True

    def on_headers_complete(self) -> None:
        status: int = self._parser.get_status_code()
        if self._response is not None and status >= 200:  # before that it is not the answer
            self._response.status = status

    def on_body(self, body: bytes) -> None:
        if self._response is not None:
            self._response.arrived(body)

    def on_message_complete(self) -> None:
        if self._response is None or not self._response.status:
            return
        self.resume()
        self._let_go(None)
        if self._is_ending or not self._parser.should_keep_alive():
            self._transport.close()
        else:
            self._owner.free(self)


@lru_cache(1024)
def _place(url: str) -> _Place:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return _Place(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.netloc, parts.path.rstrip("/"))
