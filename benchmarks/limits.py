"""What asking Valkey for a limit costs a gateway.

Hypothesis. One script call for each request over one connection that all requests share costs less than 15 us of CPU a
request under load and adds less than 0.3 ms to a lone one, so limits can be exact over all gateways instead of leased.
Sketch. Pack the command 2 us, a future 1 us, a share of a write and of a read 2 us each, read the reply 2 us, judge it
3 us. Valkey runs the script in 10 us, on a core of its own where there is one.
Peer: valkey-py's asyncio client with its pool, C parser on, the same script. Limit: buckets in this process.
Control: the spread of the rounds (largest over smallest), below which no ratio counts.
Known limits. All share two cores with whatever else runs: CPU a call counts, calls/s and latency say little.

Run: make bench NAME=limits, or python -m benchmarks.limits [--rounds 3] [--seconds 2]."""

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop
import valkey.asyncio
from rich.console import Console
from rich.table import Table

from serving.limits.buckets import Buckets
from serving.limits.rules import Rule
from serving.limits.shared import BUCKET, SharedBuckets, bucket_call
from studio import ids
from tests.serving.limits.valkey_server import ValkeyServer

CALLERS = (1, 32)
# As of a key in earnest: a rate of requests, one of tokens, some at once; never reached.
RULE = Rule(ids.uuid7(), ids.uuid7(), ids.uuid7(), None, (0, 1_000_000_000, 100_000_000_000, 1_000_000))

Ask = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of one subject with so many callers at once; medians of the rounds."""

    calls_per_second: float
    cpu_us_per_call: float
    latency_ms_p50: float
    spread: float


async def in_process() -> AsyncGenerator[Ask, None]:
    """The limit: nothing to wait for."""
    buckets = Buckets()

    async def ask(request: str) -> bool:
        admitted = buckets.take((RULE,), request, 100, time.monotonic_ns() // 1_000_000).admitted
        buckets.finish((RULE,), request)
        return admitted

    yield ask


async def one_connection(url: str) -> AsyncGenerator[Ask, None]:
    """What the gateway does: the call it waits for, and the one at the end that it does not."""
    shared = SharedBuckets(url, ids.uuid7(), {})
    running = asyncio.create_task(shared.run())
    while not shared.is_connected:  # noqa: ASYNC110 (nobody else waits for it, so it has no event)
        await asyncio.sleep(0.01)

    async def ask(request: str) -> bool:
        reading = await shared.take((RULE,), request, 100)
        shared.end((RULE,), request, -50, [0])
        return reading is not None and reading.admitted

    yield ask
    running.cancel()


async def library(url: str) -> AsyncGenerator[Ask, None]:
    """The peer. It cannot send without waiting, so its call at the end is left out, in its favour."""
    async with valkey.asyncio.Valkey.from_url(url, max_connections=64) as client:
        await client.script_load(BUCKET.source)

        async def ask(request: str) -> bool:
            _, sha, keys, *words = bucket_call("take", (RULE,), request, 1, 100, [0])
            admitted, *_ = await client.evalsha(sha, keys, *words)
            return bool(admitted)

        yield ask


async def measure(ask: Ask, callers: int, seconds: float) -> tuple[float, float, float]:
    """Calls a second, CPU us a call, median ms of a call."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def call(caller: int) -> None:
        number = 0
        while (before := time.perf_counter()) < end:
            if not await ask(f"{caller}-{number}"):
                raise RuntimeError("a limit that is never reached refused a call")
            latencies.append(time.perf_counter() - before)
            number += 1

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(call, range(callers)))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    return len(latencies) / took, cpu / len(latencies) * 1e6, median(latencies) * 1e3


async def all_rounds(url: str, rounds: int, seconds: float) -> dict[str, dict[int, Measurement]]:
    """Interleaved: each round goes through all subjects."""
    subjects: dict[str, Callable[[], AsyncGenerator[Ask, None]]] = {
        "in process (limit)": in_process,
        "one connection": lambda: one_connection(url),
        "valkey-py (peer)": lambda: library(url),
    }
    taken: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for _ in range(rounds):
        for name, subject in subjects.items():
            async with contextlib.aclosing(subject()) as asks:
                ask = await anext(asks)
                for callers in CALLERS:
                    await measure(ask, callers, seconds / 10)  # warm
                    taken.setdefault((name, callers), []).append(await measure(ask, callers, seconds))
    return {name: {callers: _median(taken[name, callers]) for callers in CALLERS} for name in subjects}


def _median(rounds: list[tuple[float, float, float]]) -> Measurement:
    rates, cpu, latencies = zip(*rounds, strict=True)
    spread = max(rates) / min(rates)
    return Measurement(round(median(rates)), round(median(cpu), 1), round(median(latencies), 3), round(spread, 2))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="measured time of each cell of each round")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="studio-benchmark-") as folder:
        server = ValkeyServer(Path(folder))
        server.start()
        try:
            of = uvloop.run(all_rounds(server.url, arguments.rounds, arguments.seconds))
        finally:
            server.stop()
    table = Table("subject", "callers", "calls/s", "CPU us/call", "p50 ms", "spread")
    for name, by_callers in of.items():
        for callers, one in by_callers.items():
            table.add_row(name, str(callers), *(f"{value:,}" for value in asdict(one).values()))
    Console(width=100).print(table)
    limit, ours, peer = (by_callers[CALLERS[-1]] for by_callers in of.values())
    ratios = {
        "cpu_per_call_peer_over_ours": round(peer.cpu_us_per_call / ours.cpu_us_per_call, 2),
        "cpu_per_call_ours_over_in_process": round(ours.cpu_us_per_call / limit.cpu_us_per_call, 2),
        "calls_per_second_ours_over_peer": round(ours.calls_per_second / peer.calls_per_second, 2),
    }
    figures = {name: {callers: asdict(one) for callers, one in by_callers.items()} for name, by_callers in of.items()}
    print(json.dumps({"name": "limits", "ratios": ratios, "figures": figures}))


if __name__ == "__main__":
    main()
