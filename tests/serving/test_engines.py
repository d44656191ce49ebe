"""Connections to engines, at the moments at which they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from serving.engines import Answer, Engines, ReplicaGone
from serving.fleet.view import Fleet
from serving.routing import Target
from studio.errors import ServiceUnavailable
from tests.serving.test_wire import BASE, REPLICA

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def answer_of(*chunks: bytes) -> AsyncIterator[Answer]:
    """The answer of an engine that sends these chunks 50 ms apart and then cuts the connection."""

    handlers: set[asyncio.Task[None] | None] = set()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        for chunk in chunks:
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    engines = Engines()
    port = server.sockets[0].getsockname()[1]
    fleet = Fleet({BASE.id: BASE}, {BASE.id: (replace(REPLICA, url=f"http://127.0.0.1:{port}"),)})
    try:
        answer = await engines.ask(fleet, Target(BASE), "/v1/chat/completions", lambda _: b"{}", stream=True)
        yield answer
        answer.close()
    finally:
        assert engines.balancer.requests_of(REPLICA) == 0
        await engines.close()
        server.close()
        await asyncio.wait([handler for handler in handlers if handler])


async def test_what_arrived_before_a_break_is_read_first() -> None:
    async with answer_of(b"one", b"two", b"three") as answer:
        assert answer.first == b"one"
        await asyncio.sleep(0.3)  # busy elsewhere: meanwhile the rest arrives and the connection ends
        assert await answer.more() == b"twothree"
        with pytest.raises(ReplicaGone):
            await answer.more()


async def test_an_engine_that_breaks_off_is_suspect_unless_we_had_hung_up() -> None:
    for hang_up, suspects in ((False, {REPLICA.id}), (True, set())):
        async with answer_of(b"one") as answer:
            if hang_up:
                answer.half_close()
            answer._engines.balancer.health.unreachable(REPLICA.id, 0.0)  # the second in a row ejects
            with pytest.raises(ReplicaGone):
                await answer.more()
            assert answer._engines.balancer.health.avoided(0.0) == suspects


async def test_an_engine_that_sends_nothing_is_gone() -> None:
    with pytest.raises(ServiceUnavailable, match="No replica of `m` answers"):
        async with answer_of():
            pass
