"""Clients that keep a gateway busy until it is gone, and remember what reached them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
import orjson

from studio import clock
from tests.serving.gateway_process import CHAT

SMALL = 5
ROUNDS = int(os.environ.get("STUDIO_CHAOS_ROUNDS", SMALL))
SEED = int(os.environ.get("STUDIO_CHAOS_SEED") or random.randrange(1 << 30))
CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Delivery:
    """An answer whose last byte arrived, as its client saw it, by the tests' own clock."""

    completion_tokens: int
    asked_at: datetime
    answered_at: datetime


Delivered = dict[str, Delivery]  # by request id


async def request(session: aiohttp.ClientSession, url: str, dice: random.Random, delivered: Delivered) -> None:
    tokens, is_stream = dice.randint(1, 60), dice.random() < 0.5
    body: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "one two three"}]}
    body |= {"max_tokens": tokens, "stream": is_stream}
    asked_at = clock.now()
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        content = await response.read()
        if is_stream:
            assert content.endswith(b"data: [DONE]\n\n")
            assert b'"error"' not in content
        else:
            assert orjson.loads(content)["usage"]["completion_tokens"] == tokens
        delivered[response.headers["x-request-id"]] = Delivery(tokens, asked_at, clock.now())


@asynccontextmanager
async def load(url: str, key: str, dice: random.Random, delivered: Delivered) -> AsyncIterator[None]:
    """Clients that ask one request after the other until the gateway is gone."""

    async def client(session: aiohttp.ClientSession) -> None:
        try:
            while True:
                await request(session, url, dice, delivered)
        except aiohttp.ClientError:
            pass  # the gateway was killed

    headers = {"authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as clients,
    ):
        for _ in range(CLIENTS):
            clients.create_task(client(session))
        yield


async def some_answers(delivered: Sized, dice: random.Random) -> None:
    """Until each client could have got one, and then to a moment that nobody expects."""
    wanted = len(delivered) + CLIENTS + 1
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(dice.uniform(0.01, 0.2))
            if len(delivered) >= wanted:
                return
