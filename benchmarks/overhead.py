"""Gateway overhead: what a request and a chunk cost because they pass through us.

Hypothesis. With everything on (key check, limits, a budget reserved and settled, metering, journal synced before the
last byte) the gateway costs at most 350 us of CPU a JSON request and 60 us a paced chunk, delivers 99 % of 128 streams
of 50 chunks a second, and adds at most 0.6 ms to the first token of a lone client.
Sketch. Read, check and rewrite the body 40 us; key, limit, route 10 us; aiohttp upstream 120 us; uvicorn 60 us; event
and journal 20 us; one fdatasync (0.2-3 ms, shared by all that wait) before the last byte. A chunk is one read, one
parse, one write: 30 us of system calls and 10-20 us of ours.
Limit: the stub engine directly. Peers, all in the same run, interleaved, medians of the rounds: nginx with
proxy_buffering off, which does none of the money work; with --peers also vllm-router, which only routes, and LiteLLM's
proxy with a key and without a database (`make peers` installs both).
Truth: what the gateway has written down is compared with the engines' own totals over its cells, to the token, with the
streams that each window cuts off in mid-flight among them.
Control: the stub measured directly in each round; how far its rounds lie apart is the noise below which no ratio
counts.
Bursts come in two cells: sixteen events in one write, which shows what an event costs where all else is shared, and
each event in a write of its own, as vLLM's server sends them; there the engine's core may be what limits nginx.
Known limits. With two cores, server under test and load share the machine with whatever else runs: CPU per request and
ratios count, absolute req/s does not. c=32 is capacity, not latency. A peer's answers that fail the load's own check
are listed as faults and are part of no figure but the CPU.

Run: make bench NAME=overhead, or python -m benchmarks.overhead [--rounds 3] [--seconds 2] [--peers]. Needs nginx."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.gateway import Gateway, gateway_in_front_of
from benchmarks.load import Measurement, Target, Workload, closed_loop
from benchmarks.nginx import NginxNotInstalled, nginx_in_front_of
from benchmarks.peers import LITELLM_KEY, PeersNotInstalled, litellm_in_front_of, vllm_router_in_front_of
from benchmarks.process import pinned_to, pss_bytes, tree
from tests.stub_engine import EngineCounters, StubEngine


class Pace(NamedTuple):
    """Of one stream of an engine; without a pace tokens leave as fast as the socket takes them, some in one write."""

    tokens_per_second: float = 0
    tokens_per_write: int = 16


# "brisk" is there for the first token: an unpaced engine has written the next ones before the first is through, and
# they are read together. "eventwise" writes each event by itself, as vLLM's server does.
ENGINES = {"unpaced": Pace(), "eventwise": Pace(tokens_per_write=1), "brisk": Pace(500), "paced": Pace(50)}


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of loading a server."""

    name: str
    engine: str
    workload: Workload
    connections: int

    @property
    def paced(self) -> bool:
        """Whether it is about chunks: its streams outlast the window, so whole requests say nothing."""
        return self.engine == "paced"


CELLS = (
    Cell("json_c1", "unpaced", Workload(max_tokens=16, stream=False), connections=1),
    Cell("json_c32", "unpaced", Workload(max_tokens=16, stream=False), connections=32),
    Cell("json_c128", "unpaced", Workload(max_tokens=16, stream=False), connections=128),
    Cell("sse_c1", "brisk", Workload(max_tokens=5, stream=True), connections=1),
    Cell("burst_c32", "unpaced", Workload(max_tokens=64, stream=True), connections=32),
    Cell("eventwise_c32", "eventwise", Workload(max_tokens=64, stream=True), connections=32),
    Cell("paced_c128", "paced", Workload(max_tokens=100, stream=True), connections=128),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """One server under test, with its way to each engine."""

    name: str
    targets: dict[str, Target]
    pids: tuple[int, ...]
    is_peer: bool = False  # whose wrong answers are its own business


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds of one subject in one cell; None where a figure means nothing."""

    requests_per_second: float | None
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    ttft_ms_p50: float | None
    chunks_per_second: float | None
    gap_ms_p99: float | None
    cpu_us_per_request: float | None
    cpu_us_per_chunk: float | None  # of paced streams alone: chunks that come together hardly cost anything
    faults: int
    spread: float  # largest over smallest rate of the rounds


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that is measured, and what the truth is read from."""

    subjects: tuple[Subject, ...]
    engines: dict[str, StubEngine]
    gateway: Gateway

    def engine_tokens(self) -> Counter[str]:
        """The engines' own totals, once nothing runs in them and nothing more arrives, of what a window has cut off."""
        previous: list[EngineCounters] = []
        while True:
            counters = [engine.counters() for engine in self.engines.values()]
            if counters == previous and not any(one.requests_running for one in counters):
                return Counter(
                    prompt=sum(one.prompt_tokens for one in counters),
                    completion=sum(one.generation_tokens for one in counters),
                )
            previous = counters
            time.sleep(0.5)

    def billed_tokens(self, at_least: Counter[str]) -> Counter[str]:
        """What is in `usage_events`, waited for until it is `at_least` that, or 15 s."""
        deadline = time.monotonic() + 15
        while True:
            with self.gateway.database.superuser() as connection:
                row = connection.execute(
                    "select sum(prompt_tokens), sum(completion_tokens) from usage_events"
                ).fetchone()
            assert row is not None
            billed = Counter(prompt=int(row[0] or 0), completion=int(row[1] or 0))
            if billed >= at_least or time.monotonic() > deadline:
                return billed
            time.sleep(0.2)


@contextmanager
def bench(*, with_peers: bool) -> Iterator[Bench]:
    """Servers under test get a core of their own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    tested, rest = {cores[-1]}, set(cores[:-1]) or set(cores)
    with ExitStack() as stack:
        stack.enter_context(pinned_to(rest))  # the engines and this process, which makes the load
        engines = {
            name: stack.enter_context(
                StubEngine(tokens_per_second=pace.tokens_per_second, tokens_per_write=pace.tokens_per_write)
            )
            for name, pace in ENGINES.items()
        }
        urls = {name: engine.url for name, engine in engines.items()}
        with pinned_to(tested):
            proxies = {name: stack.enter_context(nginx_in_front_of(url)) for name, url in urls.items()}
            peers: list[Subject] = []
            if with_peers:
                routers = {name: stack.enter_context(vllm_router_in_front_of(url)) for name, url in urls.items()}
                litellm = stack.enter_context(litellm_in_front_of(urls))
                peers = [
                    Subject(
                        "vllm-router",
                        {name: Target(router.url, "stub") for name, router in routers.items()},
                        tuple(pid for router in routers.values() for pid in tree(router.pid)),
                        is_peer=True,
                    ),
                    Subject(
                        "litellm",
                        {name: Target(litellm.url, name, LITELLM_KEY) for name in urls},
                        tree(litellm.pid),
                        is_peer=True,
                    ),
                ]
        gateway = stack.enter_context(gateway_in_front_of(urls, cores=tested))
        tested_subjects = (
            Subject("direct", {name: Target(url, name) for name, url in urls.items()}, pids=()),
            Subject(
                "nginx",
                {name: Target(proxy.url, name) for name, proxy in proxies.items()},
                pids=tuple(pid for proxy in proxies.values() for pid in tree(proxy.pid)),
            ),
            Subject("gateway", {name: Target(gateway.url, name, gateway.key) for name in urls}, gateway.pids),
            *peers,
        )
        yield Bench(tested_subjects, engines, gateway)


Measured = dict[tuple[str, str], list[Measurement]]


def measure(tested: Bench, *, rounds: int, seconds: float) -> tuple[Measured, Counter[str]]:
    """Interleaved: each round goes through all cells, each cell through all subjects. Also what the engines counted
    while the gateway was measured."""
    measured: Measured = {}
    counted: Counter[str] = Counter()
    for _ in range(rounds):
        for cell in CELLS:
            for subject in tested.subjects:
                before = tested.engine_tokens()
                measurement = uvloop.run(
                    closed_loop(
                        subject.targets[cell.engine],
                        cell.workload,
                        connections=cell.connections,
                        seconds=seconds,
                        server_pids=subject.pids,
                    )
                )
                if subject.name == "gateway":
                    counted += tested.engine_tokens() - before
                empty = not (measurement.requests or measurement.chunks)
                if not subject.is_peer and (measurement.faults or empty):
                    raise RuntimeError(f"{subject.name} answered wrongly in {cell.name}: {measurement.faults}")
                measured.setdefault((cell.name, subject.name), []).append(measurement)
    return measured, counted


def figures(cell: Cell, rounds: list[Measurement]) -> Figures:
    requests = None if cell.paced else [one.requests_per_second for one in rounds]
    chunks = [one.chunks_per_second for one in rounds] if cell.workload.stream else None
    cpu_us = [None if (cpu := one.server_cpu_seconds) is None else cpu * 1e6 for one in rounds]
    rates = requests or chunks or []
    return Figures(
        requests_per_second=_median(requests or []),
        latency_ms_p50=None if cell.paced else _median(one.latency_ms_p50 for one in rounds),
        latency_ms_p99=None if cell.paced else _median(one.latency_ms_p99 for one in rounds),
        ttft_ms_p50=None if cell.paced else _median(one.ttft_ms_p50 for one in rounds),
        chunks_per_second=_median(chunks or []),
        gap_ms_p99=_median(one.gap_ms_p99 for one in rounds) if cell.paced else None,
        cpu_us_per_request=None if cell.paced else _median(map(_each, cpu_us, (one.requests for one in rounds))),
        cpu_us_per_chunk=_median(map(_each, cpu_us, (one.chunks for one in rounds))) if cell.paced else None,
        faults=sum(sum(one.faults.values()) for one in rounds),
        spread=round(max(rates) / min(rates), 3) if all(rates) else 0,
    )


def ratios(of: dict[str, dict[str, Figures]]) -> dict[str, float | None]:
    """The result: each names what is over what. A ratio to direct's 0.1 ms says little without the figures."""
    json_c1, json_c32, json_c128, sse_c1, burst, eventwise, paced = (of[cell.name] for cell in CELLS)
    beside_peers = {
        f"{cell}_{figure}_gateway_over_{peer}": _ratio(getattr(rows["gateway"], figure), getattr(rows[peer], figure))
        for peer in ("vllm-router", "litellm")
        if peer in json_c1
        for cell, rows, figure in (
            ("json_c32", json_c32, "requests_per_second"),
            ("json_c128", json_c128, "requests_per_second"),
            ("burst_c32", burst, "chunks_per_second"),
            ("eventwise_c32", eventwise, "chunks_per_second"),
            ("paced_c128", paced, "chunks_per_second"),
            ("paced_c128", paced, "cpu_us_per_chunk"),
        )
    }
    return beside_peers | {
        "burst_chunks_per_second_gateway_over_nginx": _ratio(
            burst["gateway"].chunks_per_second, burst["nginx"].chunks_per_second
        ),
        "eventwise_chunks_per_second_gateway_over_nginx": _ratio(
            eventwise["gateway"].chunks_per_second, eventwise["nginx"].chunks_per_second
        ),
        "paced_gap_p99_ms_gateway_minus_nginx": _difference(paced["gateway"].gap_ms_p99, paced["nginx"].gap_ms_p99),
        "json_c32_requests_per_second_gateway_over_nginx": _ratio(
            json_c32["gateway"].requests_per_second, json_c32["nginx"].requests_per_second
        ),
        "json_c32_cpu_per_request_gateway_over_nginx": _ratio(
            json_c32["gateway"].cpu_us_per_request, json_c32["nginx"].cpu_us_per_request
        ),
        "paced_cpu_per_chunk_gateway_over_nginx": _ratio(
            paced["gateway"].cpu_us_per_chunk, paced["nginx"].cpu_us_per_chunk
        ),
        "paced_chunks_delivered_gateway_over_direct": _ratio(
            paced["gateway"].chunks_per_second, paced["direct"].chunks_per_second
        ),
        "paced_gap_p99_gateway_over_direct": _ratio(paced["gateway"].gap_ms_p99, paced["direct"].gap_ms_p99),
        "json_c1_latency_p50_gateway_over_direct": _ratio(
            json_c1["gateway"].latency_ms_p50, json_c1["direct"].latency_ms_p50
        ),
        "sse_c1_ttft_p50_gateway_over_direct": _ratio(sse_c1["gateway"].ttft_ms_p50, sse_c1["direct"].ttft_ms_p50),
        "control_direct_spread": json_c32["direct"].spread,
    }


def table(of: dict[str, dict[str, Figures]]) -> Table:
    columns = ("req/s", "p50 ms", "p99 ms", "TTFT ms", "chunk/s", "gap p99", "us/req", "us/chunk", "faults", "spread")
    result = Table("cell", "server", *columns, padding=0)
    for cell, by_subject in of.items():
        for subject, row in by_subject.items():
            values = asdict(row).values()
            result.add_row(cell, subject, *("" if value is None else _three_digits(value) for value in values))
        result.add_section()
    return result


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _each(total: float | None, count: int) -> float | None:
    return None if total is None or not count else total / count


def _median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return round(median(present), 3) if present else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 3) if ours is not None and theirs else None


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return round(ours - theirs, 3) if ours is not None and theirs is not None else None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description="Gateway against stub, nginx and other gateways."
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="measured time of each cell of each round")
    parser.add_argument("--peers", action="store_true", help="LiteLLM and vllm-router, too")
    arguments = parser.parse_args()
    try:
        with bench(with_peers=arguments.peers) as tested:
            measured, counted = measure(tested, rounds=arguments.rounds, seconds=arguments.seconds)
            billed = tested.billed_tokens(counted)
            memory_mib = {one.name: round(pss_bytes(one.pids) / 2**20) for one in tested.subjects if one.pids}
    except (NginxNotInstalled, PeersNotInstalled) as missing:
        print(missing, file=sys.stderr)
        raise SystemExit(2) from None
    names = [one.name for one in tested.subjects]
    of = {cell.name: {name: figures(cell, measured[cell.name, name]) for name in names} for cell in CELLS}
    Console(width=112).print(table(of))
    as_json = {cell: {subject: asdict(row) for subject, row in rows.items()} for cell, rows in of.items()}
    truth = {"engines_counted": dict(counted), "gateway_billed": dict(billed), "equal": counted == billed}
    print(
        json.dumps(
            {"name": "overhead", "ratios": ratios(of), "truth": truth, "memory_mib": memory_mib, "figures": as_json}
        )
    )
    if counted != billed:
        raise SystemExit("The gateway's ledger and the engines' totals differ.")


if __name__ == "__main__":
    main()
