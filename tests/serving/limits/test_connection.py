"""One connection for all requests of a gateway: replies in order, and a clear end when there are none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from serving.limits.connection import PATIENCE_SECONDS, Connection, ValkeyAway, ValkeyRefused
from tests.serving.limits.valkey_server import ValkeyServer


def play(valkey: ValkeyServer, story: Callable[[Connection], Awaitable[None]]) -> None:
    """On the gateway's event loop."""

    async def with_connection() -> None:
        connection = await Connection.open(valkey.url)
        try:
            await story(connection)
        finally:
            connection.close()
            await connection.lost

    uvloop.run(with_connection())


def test_many_callers_each_get_their_own_reply(valkey: ValkeyServer) -> None:
    async def story(connection: Connection) -> None:
        replies = await asyncio.gather(*(connection.call("ECHO", number) for number in range(500)))
        assert replies == [b"%d" % number for number in range(500)]

    play(valkey, story)


def test_what_nobody_waits_for_shifts_no_reply(valkey: ValkeyServer) -> None:
    async def story(connection: Connection) -> None:
        connection.tell("SET", "a", 1)
        connection.tell("NO SUCH COMMAND")
        assert await connection.call("GET", "a") == b"1"

    play(valkey, story)


def test_an_error_is_the_callers_own(valkey: ValkeyServer) -> None:
    async def story(connection: Connection) -> None:
        wrong, right = connection.call("EVALSHA", "0" * 40, 0), connection.call("ECHO", "here")
        with pytest.raises(ValkeyRefused, match="NOSCRIPT"):
            await wrong
        assert await right == b"here"

    play(valkey, story)


def test_a_wrong_password_does_not_open(valkey: ValkeyServer) -> None:
    with pytest.raises(ValkeyRefused, match="WRONGPASS"):
        uvloop.run(Connection.open(valkey.url.replace("secret", "guess")))


def test_an_event_loop_that_was_late_itself_does_not_blame_valkey(valkey: ValkeyServer) -> None:
    async def story(connection: Connection) -> None:
        reply = connection.call("ECHO", "in time")
        await asyncio.sleep(0)  # it is sent
        time.sleep(2 * PATIENCE_SECONDS)  # noqa: ASYNC251 (the point)
        assert await reply == b"in time"

    play(valkey, story)


def test_silence_ends_it_for_all_who_wait(valkey: ValkeyServer) -> None:
    async def story(connection: Connection) -> None:
        valkey.freeze()
        try:
            started = time.monotonic()
            replies = await asyncio.gather(
                *(connection.call("ECHO", number) for number in range(3)), return_exceptions=True
            )
            assert [type(reply) for reply in replies] == [ValkeyAway] * 3
            assert PATIENCE_SECONDS <= time.monotonic() - started < 8 * PATIENCE_SECONDS
            with pytest.raises(ValkeyAway):
                await connection.call("ECHO", "too late")
        finally:
            valkey.thaw()

    play(valkey, story)
