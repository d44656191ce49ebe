"""The caller's side of an exchange: parts that are written without waiting stay in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving.tokens.client import Client, Message


class SlowReader:
    """Takes nothing while `reads` is not set, like a server whose socket is full."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.got: list[bytes] = []
        self.client = Client({"headers": []}, self._receive, self._send)

    async def _receive(self) -> Message:
        raise AssertionError("nobody asks")

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self.got.append(message["body"])


async def test_what_is_written_at_once_needs_no_turn_of_the_loop() -> None:
    reader = SlowReader()
    reader.reads.set()
    assert reader.client.write_at_once(b"one")
    assert reader.got == [b"one"]


@pytest.mark.parametrize("follow", [Client.write, Client.finish])
async def test_a_reader_that_is_slow_gets_all_in_order(
    follow: Callable[[Client, bytes], Coroutine[Any, Any, None]],
) -> None:
    reader = SlowReader()
    assert reader.client.write_at_once(b"one")
    assert not reader.client.write_at_once(b"two")
    assert reader.got == []
    following = asyncio.create_task(follow(reader.client, b"two"))
    await asyncio.sleep(0)
    reader.reads.set()
    await following
    assert reader.got == [b"one", b"two"]
    assert reader.client.write_at_once(b"three")
    assert reader.got[2:] == [b"three"]


async def test_nothing_is_written_to_one_who_has_left() -> None:
    reader = SlowReader()
    reader.reads.set()
    reader.client.left = True
    assert reader.client.write_at_once(b"one")
    assert reader.got == []
