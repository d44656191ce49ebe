"""The caller's side of one exchange: ASGI's `receive` and `send` in the few verbs that a token endpoint needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, MutableMapping
from typing import Any

from serving.envelope import Headers
from studio.errors import PayloadTooLarge, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]
Send = Callable[[Message], Coroutine[Any, Any, None]]


class ClientLeft(Exception):
    """Gone before its request was complete. There is nobody to answer."""


class Client:
    """`left` turns true when the caller closes its connection; from then on nothing is sent any more."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        # Of a header that is there twice the first counts.
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[None] | None = None
        self._slow: asyncio.Task[None] | None = None  # a part that was to be written at once, and waits for its reader
        self.left = False
        self.has_first_byte = False

    def header(self, name: bytes) -> str | None:
        """The value of a request header; its name in lower case."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def read_body(self, most_bytes: int) -> bytes:
        """The JSON body. A body over the limit is refused as soon as that is known."""
        content_type = (self.header(b"content-type") or "application/json").partition(";")[0].strip().lower()
        if content_type != "application/json" or self.header(b"content-encoding") not in (None, "identity"):
            raise UnsupportedMediaType("The body must be uncompressed JSON with `Content-Type: application/json`.")
        declared = self.header(b"content-length")
        if declared is not None and declared.isdecimal() and int(declared) > most_bytes:
            raise _too_large(most_bytes)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most_bytes:
                raise _too_large(most_bytes)
            if not message.get("more_body"):
                return b"".join(parts)

    def watch(self, on_left: Callable[[], None]) -> None:
        """Call back when the caller leaves. One task a request; it ends with `stop_watching`."""

        async def wait_for_end() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.left = True
            on_left()

        self._watch = asyncio.get_running_loop().create_task(wait_for_end())

    def look(self) -> None:
        """See whether the caller has left by now, without a task: for an answer that is sent whole, nobody needs to
        know before."""
        looking = self._receive()
        try:
            looking.send(None)
        except StopIteration as said:
            self.left = said.value["type"] == "http.disconnect"
        looking.close()

    def stop_watching(self) -> None:
        """The answer is complete: an end of the connection says nothing any more."""
        if self._watch is not None:
            self._watch.cancel()

    async def start(self, status: int, headers: Headers) -> None:
        """Status and headers. They reach the wire with the first bytes of the body."""
        self.has_first_byte = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """A part of the body."""
        await self._written()
        if not self.left:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def write_at_once(self, data: bytes) -> bool:
        """A part of the body, without a task that waits. False if the caller has not yet read what came before: then
        nothing is written, and `write` waits for its turn."""
        if self._slow is not None:
            return False
        if self.left:
            return True
        sending = self._send({"type": "http.response.body", "body": data, "more_body": True})
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return True
        self._slow = asyncio.get_running_loop().create_task(_go_on(sending, waits_for))
        return True

    async def finish(self, data: bytes) -> None:
        """The last part of the body."""
        self.stop_watching()
        await self._written()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def break_off(self, data: bytes) -> None:
        """The last part of a body that is not what was asked for, although its status says so."""
        self._scope["studio.broke_off"] = True
        await self.finish(data)

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.finish(body)

    async def _written(self) -> None:
        if self._slow is not None:
            await self._slow
            self._slow = None


async def _go_on(sending: Coroutine[Any, Any, None], waits_for: Any) -> None:
    await _Begun(sending, waits_for)


class _Begun:
    """A coroutine that has run without a task up to the first thing that it waits for."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        yield self._waits_for
        yield from self._coroutine.__await__()


def _too_large(most_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than the limit of {most_bytes} bytes. Send less at once.")
