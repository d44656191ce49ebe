"""Batches: how much of an engine's speed a batch gets, and how long it takes to begin.

Hypothesis. While it runs, a batch is at least 0.9 times as fast as a client that sends the same requests by itself, as
many in flight; and it begins within 20 s.
Sketch. An answer takes seconds, a commit of a shard some 20 ms, and lines of the next shard fill the lanes meanwhile.
The sensor ticks every 10 s, and a run of Dagster starts in 5 s.
Peer: the gateway, asked by aiohttp in the same rounds. (Not the engine itself: what it counts and no event holds would
keep the day from being reconciled.)
Control: the answers' tokens are counted on both sides; `ignore_eos` makes them equal.
Known limit. One small model on the CPU: engine, worker and Dagster share two cores, which is hard on the batch.

Acts on the stack of this folder (`STUDIO_STATE_DIR`), which it starts and leaves up.
Run: make bench NAME=batch, or python -m benchmarks.batch."""

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from statistics import median
from time import perf_counter, sleep
from typing import Any, Literal

import aiohttp
import openai
from openai.types import Batch
from rich.console import Console
from rich.table import Table

from benchmarks.stack import key_of, status, studio

IN_FLIGHT = 32  # a worker's lines on one replica (STUDIO_BATCH_LINES_PER_REPLICA)
ANSWER_TOKENS = 64
ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Round:
    """The same work, sent one by one and as a batch."""

    online_seconds: float
    batch_begins_after_seconds: float  # from its creation until its first line may run
    batch_runs_seconds: float  # from then on until its last line is answered

    @property
    def speed_ratio(self) -> float:
        return self.online_seconds / self.batch_runs_seconds


def bodies(model: str, lines: int, salt: int) -> list[dict[str, Any]]:
    """Requests of equal work. `salt` keeps one round's prompts out of another's prefix cache."""
    return [
        {
            "model": model,
            "messages": [{"role": "user", "content": f"Round {salt}, task {n}: write a story about {n} rivers."}],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
        }
        for n in range(lines)
    ]


async def send_one_by_one(gateway_url: str, key: str, asked: list[dict[str, Any]]) -> float:
    """Seconds until all are answered, IN_FLIGHT at a time."""
    waiting = iter(asked)
    timeout = aiohttp.ClientTimeout(total=600)

    async def lane(http: aiohttp.ClientSession) -> None:
        for body in waiting:
            async with http.post(f"{gateway_url}/v1/chat/completions", json=body) as response:
                answer = await response.json()
                if answer["usage"]["completion_tokens"] != ANSWER_TOKENS:
                    raise RuntimeError(f"an answer has {answer['usage']} instead of {ANSWER_TOKENS} tokens")

    started = perf_counter()
    async with aiohttp.ClientSession(timeout=timeout, headers={"authorization": f"Bearer {key}"}) as http:
        await asyncio.gather(*(lane(http) for _ in range(IN_FLIGHT)))
    return perf_counter() - started


def run_batch(client: openai.OpenAI, asked: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds until it began, and from then on until all lines were answered; as seen by a client that polls."""
    url: Literal["/v1/chat/completions"] = "/v1/chat/completions"
    lines = [{"custom_id": str(n), "method": "POST", "url": url, "body": body} for n, body in enumerate(asked)]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("benchmark.jsonl", content), purpose="batch")
    created = perf_counter()
    batch = client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")
    batch = _wait(client, batch, lambda now: now.status != "validating")
    began = perf_counter()
    batch = _wait(client, batch, lambda now: now.status in ENDED or _answered(now) == len(asked))
    answered = perf_counter()
    batch = _wait(client, batch, lambda now: now.status in ENDED)
    expected = len(asked) * ANSWER_TOKENS
    if batch.status != "completed" or batch.usage is None or batch.usage.output_tokens != expected:
        raise RuntimeError(f"the batch is {batch.status} with {batch.usage} instead of {expected} tokens")
    return began - created, answered - began


def _wait(client: openai.OpenAI, batch: Batch, is_over: Callable[[Batch], bool]) -> Batch:
    while not is_over(batch):
        sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def _answered(batch: Batch) -> int:
    return batch.request_counts.completed if batch.request_counts else 0


def wait_until_warm(client: openai.OpenAI, model: str) -> None:
    """Until one answer has come."""
    while True:
        try:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
        except (openai.AuthenticationError, openai.InternalServerError):  # the key or the engine is not there yet
            sleep(1)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batch", description="A batch beside the same requests, online."
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--lines", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tenant", default="benchmark", help="for whom a key of an hour is made")
    arguments = parser.parse_args()
    studio("up", "--wait-for-all")
    gateway_url, key = status()["gateway_url"], key_of(arguments.tenant)
    client = openai.OpenAI(api_key=key, base_url=f"{gateway_url}/v1", max_retries=5)
    wait_until_warm(client, arguments.model)
    salts = count(int(perf_counter() * 1000))
    rounds = []
    for _ in range(arguments.rounds):
        online = asyncio.run(send_one_by_one(gateway_url, key, bodies(arguments.model, arguments.lines, next(salts))))
        rounds.append(Round(online, *run_batch(client, bodies(arguments.model, arguments.lines, next(salts)))))

    tokens = arguments.lines * ANSWER_TOKENS
    online = median(one.online_seconds for one in rounds)
    runs = median(one.batch_runs_seconds for one in rounds)
    begins = median(one.batch_begins_after_seconds for one in rounds)
    ratio = median(one.speed_ratio for one in rounds)
    result = Table("figure", "value")
    result.add_row("sent one by one", f"{tokens / online:.0f} tokens/s")
    result.add_row("batch, while it runs", f"{tokens / runs:.0f} tokens/s ({ratio:.2f} of that)")
    result.add_row("batch begins after", f"{begins:.1f} s")
    Console().print(result)
    figures = {
        "lines": arguments.lines,
        "answer_tokens": ANSWER_TOKENS,
        "in_flight": IN_FLIGHT,
        "online_tokens_per_second": round(tokens / online, 1),
        "batch_tokens_per_second": round(tokens / runs, 1),
        "begins_after_seconds": round(begins, 2),
    }
    print(json.dumps({"name": "batch", "ratios": {"batch_over_online_speed": round(ratio, 3)}, "figures": figures}))


if __name__ == "__main__":
    main()
