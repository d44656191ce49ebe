"""Gateway processes on one machine: what a second one adds.

Hypothesis. Processes that share a port (`STUDIO_GATEWAY_SHARES_PORT`) share nothing else on a request's way, so N of
them on N cores answer at least 0.8 N times what one does.
Sketch. What could cost more with two: Valkey's answers, draws of a budget, two journals on one disk. All are there with
one, too, so a request's CPU should stay within a tenth.
Limit: one process on a core of its own. Control: the same one, measured again in each round: its spread is noise.
Known limits. Load, stub engine and Valkey need a core, too, so on two cores both processes share the other: how many
requests two cores answer is not shown. The figure is CPU per request: N cores answer N times as much as one if it stays
the same, less by as much as it grows; here it also grows by what two processes cost that take turns on one core.
Connections are spread by the kernel's hash and not evenly: `least_share` is the smallest part of requests that one
process of two has answered.

Run: make bench NAME=workers, or python -m benchmarks.workers [--rounds 3] [--seconds 3]."""

import argparse
import json
import os
import re
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median

import httpx
import uvloop

from benchmarks.gateway import Gateway, gateway_in_front_of
from benchmarks.load import Target, Workload, closed_loop
from benchmarks.process import pinned_to, pss_bytes
from tests.stub_engine import StubEngine

ENGINE = "unpaced"
CONNECTIONS = 64
WORKLOAD = Workload(max_tokens=16, stream=False)


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one gateway."""

    requests_per_second: float
    cpu_us_per_request: float
    least_share: float  # of the requests, by one process


def measure(gateway: Gateway, seconds: float) -> Round:
    """Requests that nobody refuses, from as many connections as there are."""
    answered_before = [_answered(url) for url in gateway.internal_urls]
    measurement = uvloop.run(
        closed_loop(
            Target(gateway.url, ENGINE, gateway.key),
            WORKLOAD,
            connections=CONNECTIONS,
            seconds=seconds,
            server_pids=gateway.pids,
        )
    )
    if measurement.faults or not measurement.requests or measurement.server_cpu_seconds is None:
        raise RuntimeError(f"the gateway answered wrongly: {measurement.faults}")
    answered = [_answered(url) - before for url, before in zip(gateway.internal_urls, answered_before, strict=True)]
    return Round(
        measurement.requests_per_second,
        measurement.server_cpu_seconds * 1e6 / measurement.requests,
        min(answered) / sum(answered),
    )


def _answered(internal_url: str) -> int:
    metrics = httpx.get(f"{internal_url}/metrics", trust_env=False).text
    return sum(int(float(count)) for count in re.findall(r"^studio_requests_total\{.*\} (\S+)$", metrics, re.MULTILINE))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers", description="One gateway process and two that share a port."
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    rounds: dict[str, list[Round]] = {"one": [], "two": [], "one_again": []}
    with ExitStack() as stack:
        with pinned_to(set(cores[:1])):
            engine = stack.enter_context(StubEngine())
        urls = {ENGINE: engine.url}
        two = stack.enter_context(gateway_in_front_of(urls, cores={cores[-1]}, workers=2))
        with gateway_in_front_of(urls, cores={cores[-1]}) as one, pinned_to(set(cores[:1])):
            for _ in range(arguments.rounds):
                for name, gateway in (("one", one), ("two", two), ("one_again", one)):
                    rounds[name].append(measure(gateway, arguments.seconds))
        # With the other gone, since it would share their libraries.
        memory_mib_each = round(pss_bytes(two.pids) / len(two.pids) / 2**20)
    cpu_us = {name: median(one.cpu_us_per_request for one in measured) for name, measured in rounds.items()}
    result = {
        "name": "workers",
        "ratios": {
            "cpu_per_request_one_over_two": round(cpu_us["one"] / cpu_us["two"], 3),
            "requests_per_second_two_over_one": round(
                median(one.requests_per_second for one in rounds["two"])
                / median(one.requests_per_second for one in rounds["one"]),
                3,
            ),
            "control_cpu_per_request_one_over_one_again": round(cpu_us["one"] / cpu_us["one_again"], 3),
        },
        "least_share": round(min(one.least_share for one in rounds["two"]), 3),
        "memory_mib_of_each_of_two": memory_mib_each,
        "cores": len(cores),
        "figures": {name: [asdict(one) for one in measured] for name, measured in rounds.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
