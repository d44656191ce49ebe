"""Clients of every kind that keep a gateway busy, and what each of them knows of its request: whole answers and
streams, one choice and several, embeddings, and streams that their client leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from tests.serving.gateway_process import CHAT, EMBEDDING
from tests.serving.load import CLIENTS

CHAT_PATH = "/v1/chat/completions"
PROMPT = "one two three"  # as many tokens
LEFT_TOKENS = 300  # of a stream that is left at its first bytes: more than it gets to write


class Work(NamedTuple):
    """Tokens as an engine counts them."""

    prompt: int  # once for each choice
    completion: int


@dataclass(frozen=True, slots=True)
class Question:
    """A request, what it makes an engine do at most, and whether its client stays for the answer."""

    path: str
    body: dict[str, Any]
    work: Work
    is_left: bool = False


@dataclass(slots=True)
class Seen:
    """What became of requests, by their ids."""

    delivered: dict[str, Work] = field(default_factory=dict)  # to the last byte, so exactly this
    left: dict[str, Work] = field(default_factory=dict)  # this at most
    cut: list[Work] = field(default_factory=list)  # by a kill, and this at most


def total(works: Iterable[Work]) -> Work:
    """Of all together."""
    listed = list(works)
    return Work(sum(one.prompt for one in listed), sum(one.completion for one in listed))


def question(dice: random.Random) -> Question:
    """One of some kind."""
    kind, tokens = dice.choice(("whole", "stream", "several", "embedding", "left")), dice.randint(1, 60)
    if kind == "embedding":
        return Question("/v1/embeddings", {"model": EMBEDDING, "input": ["one", "two words"]}, Work(3, 0))
    choices = dice.randint(2, 3) if kind == "several" else 1
    if kind == "left":
        tokens, choices = LEFT_TOKENS, dice.randint(1, 2)
    body: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": tokens}
    body |= {"n": choices, "stream": kind in ("stream", "left") or (kind == "several" and dice.random() < 0.5)}
    return Question(CHAT_PATH, body, Work(3 * choices, tokens * choices), kind == "left")


async def ask(session: aiohttp.ClientSession, url: str, asked: Question, seen: Seen) -> None:
    """One, until its end or until its client leaves."""
    async with session.post(f"{url}{asked.path}", json=asked.body) as response:
        assert response.status == 200, await response.text()
        id = response.headers["x-request-id"]
        if asked.is_left:
            await response.content.readany()
            seen.left[id] = asked.work
            response.close()
            return
        content = await response.read()
    if asked.body.get("stream"):
        assert content.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in content
    seen.delivered[id] = asked.work


@asynccontextmanager
async def mixed_load(url: str, key: str, dice: random.Random, seen: Seen) -> AsyncIterator[None]:
    """Clients that ask one request after the other until the block ends or the gateway is gone."""
    is_over = asyncio.Event()

    async def client(session: aiohttp.ClientSession) -> None:
        while not is_over.is_set():
            asked = question(dice)
            try:
                await ask(session, url, asked, seen)
            except aiohttp.ClientError:
                seen.cut.append(asked.work)
                return  # the gateway was killed

    headers = {"authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as clients,
    ):
        for _ in range(CLIENTS):
            clients.create_task(client(session))
        yield
        is_over.set()
