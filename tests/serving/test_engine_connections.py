"""HTTP to engines, with whatever an engine may send and however the network cuts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from serving.engine_connections import MOST_UNREAD_BYTES, BrokenOff, Connections, NotReached, Response
from tests.server import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SILENCE = timedelta(seconds=30)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def engine(serve: Serve) -> AsyncIterator[str]:
    """A server whose every connection is handled by `serve`; its URL."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has left
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def ask(connections: Connections, url: str, *, silence: timedelta = SILENCE, anew: bool = False) -> Response:
    return await connections.ask("POST", url, "/v1/x", b"{}", None, silence, anew=anew)


async def request_from(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2)


@asynccontextmanager
async def connections_to(serve: Serve) -> AsyncIterator[tuple[Connections, str]]:
    connections = Connections()
    async with engine(serve) as url:
        yield connections, url
        await connections.close()


def answering(*answers: bytes) -> Serve:
    """Each request of a connection gets the next answer; after the last the connection ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request_from(reader)
            writer.write(answer)

    return serve


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",  # ends with its connection
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
async def test_an_answer_is_whole_however_its_end_is_marked(answer: bytes) -> None:
    async with connections_to(answering(answer)) as (connections, url):
        response = await ask(connections, url)
        assert (response.status, await response.read()) == (200, b"ok")


async def test_the_network_may_cut_an_answer_anywhere() -> None:
    async def byte_by_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        for at in range(len(OK)):
            writer.write(OK[at : at + 1])
            await asyncio.sleep(0)
        await reader.read()

    async with connections_to(byte_by_byte) as (connections, url):
        assert await (await ask(connections, url)).read() == b"ok"


async def test_a_request_names_its_host_and_carries_its_key() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await request_from(reader))
        writer.write(OK)

    async with connections_to(serve) as (connections, url):
        await (await connections.ask("POST", f"{url}/base/", "/v1/x", b"{}", "Bearer k", SILENCE)).read()
        head = asked[0].decode()
        assert head.startswith("POST /base/v1/x HTTP/1.1\r\n")
        assert f"\r\nhost: {url.removeprefix('http://')}\r\n" in head
        assert "\r\nauthorization: Bearer k\r\n" in head
        assert head.endswith("\r\ncontent-length: 2\r\n\r\n{}")


async def test_a_connection_is_used_again_but_not_when_a_new_one_is_wanted() -> None:
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await answering(OK, OK, OK)(reader, writer)

    async with connections_to(serve) as (connections, url):
        for _ in range(2):
            await (await ask(connections, url)).read()
        assert opened == 1
        await (await ask(connections, url, anew=True)).read()
        assert opened == 2


async def test_a_connection_whose_answer_was_not_read_to_its_end_is_not_used_again() -> None:
    async with connections_to(answering(OK[:-1])) as (connections, url):
        (await ask(connections, url)).close()
        assert connections._kept(url) is None


async def test_what_arrived_before_a_break_is_read_and_then_the_break_is_told() -> None:
    async with connections_to(answering(OK[:-1])) as (connections, url):
        response = await ask(connections, url)
        assert await response.more() == b"o"
        with pytest.raises(BrokenOff):
            await response.more()


@pytest.mark.parametrize(
    "answer", [b"", b"what?\r\n\r\n", b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"]
)
async def test_what_is_no_answer_is_a_break(answer: bytes) -> None:
    async with connections_to(answering(answer)) as (connections, url):
        with pytest.raises(BrokenOff):
            await ask(connections, url)


async def test_nobody_at_an_address_is_not_a_break() -> None:
    with pytest.raises(NotReached):
        await ask(Connections(), f"http://127.0.0.1:{free_port()}")


async def test_an_engine_that_says_nothing_for_too_long_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        writer.write(OK[:-1])
        await reader.read()

    async with connections_to(silent) as (connections, url):
        response = await ask(connections, url, silence=timedelta(milliseconds=50))
        assert await response.more() == b"o"
        with pytest.raises(TimeoutError):
            await response.more()


async def test_a_slow_reader_makes_the_engine_wait_and_misses_nothing() -> None:
    size = 64 * MOST_UNREAD_BYTES
    sent = 0

    async def fast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request_from(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(64):
            writer.write(b"x" * MOST_UNREAD_BYTES)
            await writer.drain()
            sent += MOST_UNREAD_BYTES
        await reader.read()

    async with connections_to(fast) as (connections, url):
        # Longer silence than this is ours, not the engine's.
        response = await ask(connections, url, silence=timedelta(milliseconds=200))
        before = -1
        while before != sent:  # until it stands still
            before = sent
            await asyncio.sleep(0.3)
        assert sent < size
        assert len(await response.read()) == size
        assert connections._kept(url) is not None


async def test_what_arrives_while_one_waits_is_offered_first_and_the_rest_is_read() -> None:
    chunks = [b"common", b"common", b"other", b"common"]
    offered: list[bytes] = []
    more = asyncio.Semaphore(0)

    def take(data: bytes) -> bool:
        offered.append(data)
        more.release()
        return data == b"common"

    async def one_by_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        for chunk in chunks:
            await more.acquire()
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await more.acquire()
        writer.write(b"0\r\n\r\n")

    async with connections_to(one_by_one) as (connections, url):
        response = await ask(connections, url)
        assert await response.more() == b"first"
        more.release()
        assert await response.more(take) == b"other"
        assert offered == [b"common", b"common", b"other"]
        assert await response.more(take) == b""
        assert offered[3:] == [b"common"]


async def test_an_engine_hears_that_we_left_and_its_last_words_are_read() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        writer.write(OK[:-1])
        assert await reader.read() == b""  # our end-of-file
        writer.write(OK[-1:])

    async with connections_to(serve) as (connections, url):
        response = await ask(connections, url)
        assert await response.more() == b"o"
        assert response.half_close()
        assert await response.read() == b"k"
        assert connections._kept(url) is None
