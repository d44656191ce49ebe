"""Soak: mixed load on one gateway for an hour, with memory that stays flat and no event lost.

Ends with an error when tokens are lost, or when memory grows beyond the bound in a run of half an hour or more.

Hypothesis. What a request takes is given back: after a warm-up the gateway's memory grows by less than 5 % an hour, and
every token that the engines counted is in the ledger, for each replica and to the token.
Sketch. 24 callers of three tenants, at their own pace: chats whole and streamed, streams that their caller leaves in
the middle, embeddings, and what is refused (a broken body, an unknown model, a wrong key, a limit, a budget that ends).
Truth: the stub engines' own totals, of each replica apart. Control: what callers saw; each answer is one event.
Known limits. Memory is the resident size of the process: the allocator keeps what it once had, so a slope over minutes
is an upper bound. The load is modest on purpose, since it is time and variety that find leaks.

Run: make bench NAME=soak, or python -m benchmarks.soak [--minutes 60]."""

import argparse
import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

import aiohttp
import uvloop

from benchmarks.gateway import Gateway, gateway_with
from benchmarks.process import pinned_to, rss_bytes
from benchmarks.soak_tenants import CHAT, EMBEDDING, Tenants, declare
from tests.stub_engine import StubEngine

CALLERS: Final = 24
PAUSE_SECONDS: Final = 0.05  # a caller's own, at most, between two requests
TOKENS_PER_SECOND: Final = 400
SAMPLES: Final = 200
WARM_AFTER: Final = 0.25  # of the whole time; before it caches fill
MOST_GROWTH: Final = 0.05  # of the warm size, in an hour
JUDGED_FROM_MINUTES: Final = 30  # a slope over less says how the allocator warms up
SETTLED_SECONDS: Final = 120

GOOD, STREAMED, LEFT, REFUSED = "good", "streamed", "left", "refused"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the callers have seen."""

    outcomes: Counter[str]
    memory: list[tuple[float, int]]  # seconds since the start, bytes


class Caller:
    """One caller: one request after the other, each of a kind that the dice choose."""

    def __init__(self, session: aiohttp.ClientSession, tenants: Tenants, url: str, seed: int) -> None:
        self._session = session
        self._tenants = tenants
        self._url = url
        self._dice = random.Random(seed)
        self.outcomes: Counter[str] = Counter()

    async def run(self, until: float) -> None:
        """Until that instant."""
        kinds: dict[Callable[[], Awaitable[str]], int] = {
            self._chat: 30,
            self._stream: 30,
            self._left_stream: 15,
            self._embedding: 15,
            partial(self._wrong, 400): 4,
            partial(self._wrong, 401): 3,
            partial(self._wrong, 404): 3,
        }
        while time.monotonic() < until:
            (kind,) = self._dice.choices(list(kinds), list(kinds.values()))
            self.outcomes[await kind()] += 1
            await asyncio.sleep(self._dice.random() * PAUSE_SECONDS)

    async def _chat(self) -> str:
        async with self._post("chat/completions", self._chat_body()) as response:
            await response.read()
            return self._judged(response, GOOD)

    async def _stream(self) -> str:
        async with self._post("chat/completions", self._chat_body() | {"stream": True}) as response:
            body = await response.read()
            if response.status == 200 and not body.endswith(b"data: [DONE]\n\n"):
                raise RuntimeError(f"a stream ended with {body[-200:]!r}")
            return self._judged(response, STREAMED)

    async def _left_stream(self) -> str:
        body = self._chat_body() | {"stream": True, "max_tokens": 500}
        async with self._post("chat/completions", body) as response:
            for _ in range(self._dice.randrange(1, 20)):
                if not await response.content.readany():
                    break
            return self._judged(response, LEFT)  # and out of the block, which closes the connection

    async def _embedding(self) -> str:
        body = {"model": EMBEDDING, "input": ["some words"] * self._dice.randrange(1, 8)}
        async with self._post("embeddings", body) as response:
            await response.read()
            return self._judged(response, GOOD)

    async def _wrong(self, status: int) -> str:
        body = self._chat_body()
        if status == 400:
            body["temperature"] = "hot"
        elif status == 404:
            body["model"] = "no-such-model"
        key = "xpu_wrong" if status == 401 else self._tenants.unlimited
        async with self._post("chat/completions", body, key) as response:
            await response.read()
            if response.status != status:
                raise RuntimeError(f"{response.status} instead of {status}")
            return REFUSED

    def _chat_body(self) -> dict[str, object]:
        prompt = "word " * self._dice.randrange(1, 400)
        messages = [{"role": "user", "content": prompt}]
        return {"model": CHAT, "messages": messages, "max_tokens": self._dice.randrange(1, 60)}

    def _post(
        self, path: str, body: Mapping[str, object], key: str | None = None
    ) -> "aiohttp.client._RequestContextManager":
        headers = {"authorization": f"Bearer {key or self._dice.choice(self._tenants.keys)}"}
        return self._session.post(f"{self._url}/v1/{path}", json=body, headers=headers)

    def _judged(self, response: aiohttp.ClientResponse, good: str) -> str:
        if response.status == 200:
            return good
        if response.status == 429:  # a limit, or no money left
            return REFUSED
        raise RuntimeError(f"the gateway answered {response.status}")


async def load(gateway: Gateway, tenants: Tenants, seconds: float) -> Seen:
    """All callers for so long, and the gateway's memory meanwhile."""
    began = time.monotonic()
    until = began + seconds
    memory: list[tuple[float, int]] = []

    async def watch_memory() -> None:
        while (now := time.monotonic()) < until:
            memory.append((now - began, rss_bytes(gateway.pids)))
            await asyncio.sleep(seconds / SAMPLES)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        callers = [Caller(session, tenants, gateway.url, seed) for seed in range(CALLERS)]
        for caller in callers:
            group.create_task(caller.run(until))
        group.create_task(watch_memory())
    return Seen(sum((caller.outcomes for caller in callers), Counter()), memory)


def settled(engines: Mapping[UUID, StubEngine]) -> dict[UUID, tuple[int, int]]:
    """The prompt and completion tokens of each engine, once nothing runs in them."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while any(engine.counters().requests_running for engine in engines.values()):
        if time.monotonic() > deadline:
            raise RuntimeError("an engine still works on a request that nobody waits for")
        time.sleep(0.2)
    counters = {id: engine.counters() for id, engine in engines.items()}
    return {id: (one.prompt_tokens, one.generation_tokens) for id, one in counters.items()}


def billed(gateway: Gateway, counted: Mapping[UUID, tuple[int, int]]) -> dict[UUID, tuple[int, int]]:
    """What the ledger holds for each engine, waited for until it is what was `counted`, or `SETTLED_SECONDS`."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        with gateway.database.superuser() as connection:
            rows = connection.execute(
                "select replica_id, sum(engine_prompt_tokens), sum(completion_tokens) from usage_events group by 1"
            ).fetchall()
        found = {id: (int(prompt), int(completion)) for id, prompt, completion in rows}
        if found == counted or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def end_reasons(gateway: Gateway) -> dict[str, int]:
    with gateway.database.superuser() as connection:
        rows = connection.execute("select end_reason, count(*) from usage_events group by 1").fetchall()
    return {reason: int(count) for reason, count in rows}


def growth_per_hour(memory: list[tuple[float, int]], seconds: float) -> float:
    """The slope of the straight line through the samples after the warm-up (least squares), in bytes."""
    warm = [(at / 3600, size) for at, size in memory if at >= WARM_AFTER * seconds]
    mean_at = sum(at for at, _ in warm) / len(warm)
    mean_size = sum(size for _, size in warm) / len(warm)
    spread = sum((at - mean_at) ** 2 for at, _ in warm)
    return sum((at - mean_at) * (size - mean_size) for at, size in warm) / spread


def warm_bytes(memory: list[tuple[float, int]], seconds: float) -> int:
    """The size at the first sample after the warm-up."""
    return next(size for at, size in memory if at >= WARM_AFTER * seconds)


def grows_too_fast(memory: list[tuple[float, int]], seconds: float) -> bool:
    """Whether memory is not flat. A run that is too short to tell is never judged."""
    if seconds < JUDGED_FROM_MINUTES * 60:
        return False
    return growth_per_hour(memory, seconds) > MOST_GROWTH * warm_bytes(memory, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Mixed load for a long time.")
    parser.add_argument("--minutes", type=float, default=60)
    seconds = parser.parse_args().minutes * 60
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        stack.enter_context(pinned_to(set(cores[:-1]) or set(cores)))
        engines = [stack.enter_context(StubEngine(tokens_per_second=TOKENS_PER_SECOND)) for _ in range(3)]
        tenants = Tenants()
        gateway = stack.enter_context(
            gateway_with(partial(declare, tenants, [engine.url for engine in engines]), cores={cores[-1]})
        )
        seen = uvloop.run(load(gateway, tenants, seconds))
        by_replica = dict(zip(tenants.replicas, engines, strict=True))
        counted = settled(by_replica)
        found = billed(gateway, counted)
        reasons = end_reasons(gateway)
    answered = sum(seen.outcomes[one] for one in (GOOD, STREAMED, LEFT))  # all of them have heard an engine
    is_whole = counted == found and sum(reasons.values()) == answered
    result = {
        "name": "soak",
        "minutes": seconds / 60,
        "truth": {
            "engines_counted": [list(counted[id]) for id in tenants.replicas],
            "gateway_billed": [list(found.get(id, ())) for id in tenants.replicas],
            "events": reasons,
            "equal": is_whole,
        },
        "outcomes": dict(seen.outcomes),
        "memory_mib": {
            "warm": round(warm_bytes(seen.memory, seconds) / 2**20, 1),
            "end": round(seen.memory[-1][1] / 2**20, 1),
            "growth_per_hour": round(growth_per_hour(seen.memory, seconds) / 2**20, 1),
        },
    }
    print(json.dumps(result))
    if not is_whole:
        raise SystemExit("The gateway's ledger and the engines' totals differ.")
    if grows_too_fast(seen.memory, seconds):
        raise SystemExit(f"The gateway's memory grows by more than {MOST_GROWTH:.0%} an hour.")


if __name__ == "__main__":
    main()
