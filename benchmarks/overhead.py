"""Gateway overhead: what a request and a chunk cost because they pass through us.

Hypothesis. With everything on (key check, limits, metering, journal synced before the last byte) the gateway costs at
most 350 us of CPU a JSON request and 60 us a paced chunk, and adds at most 0.6 ms to the first token of a lone client.
Sketch. Read, check and rewrite the body 40 us; key, limit, route 10 us; aiohttp upstream 120 us; uvicorn 60 us; event
and journal 20 us; one fdatasync (0.2-3 ms, shared by all that wait) before the last byte. A chunk is one read, one
parse, one write: 30 us of system calls and 10-20 us of ours.
Limit: the stub engine directly. Peer: nginx, proxy_buffering off, which does none of the money work; both in the same
run, the three interleaved, medians of the rounds.
Control: the stub measured directly in each round; how far its rounds lie apart is the noise below which no ratio
counts.
Known limits. With two cores, server under test and load share the machine with whatever else runs: CPU per request and
ratios count, absolute req/s does not. c=32 is capacity, not latency.

Run: make bench NAME=overhead, or python -m benchmarks.overhead [--rounds 3] [--seconds 2]. Needs nginx on PATH."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.gateway import gateway_in_front_of
from benchmarks.load import Measurement, Target, Workload, closed_loop
from benchmarks.nginx import NginxNotInstalled, nginx_in_front_of
from benchmarks.process import pinned_to, tree
from tests.stub_engine import StubEngine

# Engines by the tokens a second of one stream; 0: as fast as the socket takes them. "brisk" is there for the first
# token: an unpaced engine has written the next ones before the first is through, and they are read together.
ENGINES = {"unpaced": 0, "brisk": 500, "paced": 50}


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
    Cell("sse_c1", "brisk", Workload(max_tokens=5, stream=True), connections=1),
    Cell("paced_c64", "paced", Workload(max_tokens=100, stream=True), connections=64),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """One server under test, with its way to each engine."""

    name: str
    targets: dict[str, Target]
    pids: tuple[int, ...]


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
    spread: float  # largest over smallest rate of the rounds


@contextmanager
def subjects() -> Iterator[tuple[Subject, ...]]:
    """Direct, nginx and gateway. Servers under test get a core of their own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    tested, rest = {cores[-1]}, set(cores[:-1]) or set(cores)
    with ExitStack() as stack:
        stack.enter_context(pinned_to(rest))  # the engines and this process, which makes the load
        urls = {
            name: stack.enter_context(StubEngine(tokens_per_second=tokens_per_second)).url
            for name, tokens_per_second in ENGINES.items()
        }
        with pinned_to(tested):
            proxies = {name: stack.enter_context(nginx_in_front_of(url)) for name, url in urls.items()}
        gateway = stack.enter_context(gateway_in_front_of(urls, cores=tested))
        yield (
            Subject("direct", {name: Target(url, name) for name, url in urls.items()}, pids=()),
            Subject(
                "nginx",
                {name: Target(proxy.url, name) for name, proxy in proxies.items()},
                pids=tuple(pid for proxy in proxies.values() for pid in tree(proxy.pid)),
            ),
            Subject("gateway", {name: Target(gateway.url, name, gateway.key) for name in urls}, tree(gateway.pid)),
        )


def measure(tested: tuple[Subject, ...], *, rounds: int, seconds: float) -> dict[tuple[str, str], list[Measurement]]:
    """Interleaved: each round goes through all cells, each cell through all subjects."""
    measured: dict[tuple[str, str], list[Measurement]] = {}
    for _ in range(rounds):
        for cell in CELLS:
            for subject in tested:
                measurement = uvloop.run(
                    closed_loop(
                        subject.targets[cell.engine],
                        cell.workload,
                        connections=cell.connections,
                        seconds=seconds,
                        server_pids=subject.pids,
                    )
                )
                if measurement.faults or not (measurement.requests or measurement.chunks):
                    raise RuntimeError(f"{subject.name} answered wrongly in {cell.name}: {measurement.faults}")
                measured.setdefault((cell.name, subject.name), []).append(measurement)
    return measured


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
        spread=round(max(rates) / min(rates), 3),
    )


def ratios(of: dict[str, dict[str, Figures]]) -> dict[str, float | None]:
    """The result: each names what is over what. A ratio to direct's 0.1 ms says little without the figures."""
    json_c1, json_c32, sse_c1, paced = (of[cell.name] for cell in CELLS)
    return {
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
    columns = ("req/s", "p50 ms", "p99 ms", "TTFT ms", "chunk/s", "gap p99", "us/req", "us/chunk", "spread")
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
    return None if total is None else total / count


def _median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return round(median(present), 3) if present else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 3) if ours is not None and theirs else None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description="Gateway against stub and nginx."
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="measured time of each cell of each round")
    arguments = parser.parse_args()
    try:
        with subjects() as tested:
            measured = measure(tested, rounds=arguments.rounds, seconds=arguments.seconds)
    except NginxNotInstalled as missing:
        print(missing, file=sys.stderr)
        raise SystemExit(2) from None
    of = {cell.name: {one.name: figures(cell, measured[cell.name, one.name]) for one in tested} for cell in CELLS}
    Console(width=112).print(table(of))
    as_json = {cell: {subject: asdict(row) for subject, row in rows.items()} for cell, rows in of.items()}
    print(json.dumps({"name": "overhead", "ratios": ratios(of), "figures": as_json}))


if __name__ == "__main__":
    main()
