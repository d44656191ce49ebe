"""What the exporter of a GPU node costs that node: CPU for a pass over the cards and for a scrape.

Hypothesis. With eight cards a pass every 5 s and a scrape every 15 s cost less than 1 % of one core (the limit: what a
node may lose to being watched), and a scrape less than twice of what `prometheus_client` itself needs to write as many
samples that change (its floor: Gauge and Counter objects, set and written).
Sketch. 100 samples a card: 8 us each to write them, as for anybody who uses that client: 7 ms. A pass is 35 calls a
card at 5 us through ctypes and two dictionaries: 3 ms, and one fsync.
Floor of the pass: the same calls of the library through bare ctypes, nothing kept.
Control: the spread of the rounds (largest over smallest), below which no ratio counts.
Known limits. The library is a C library of the same ABI that answers from memory: what the real driver takes for a
call is not in here, and will be most of a pass. The kubelet is a real socket in this process, so its CPU is in ours.

Run: make bench NAME=exporter, or python -m benchmarks.exporter [--rounds 5] [--passes 60] [--cards 8]."""

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from rich.console import Console
from rich.table import Table

from k8s.exporter.metrics import CARD_LABELS
from k8s.exporter.mxsml import Clock, Direction, MetricAbsent, Mxsml, Temperature
from k8s.exporter.sampler import Sampler
from k8s.exporter.server import ExporterServer
from tests.k8s.exporter.node import Exposition, GpuNode, Kubelet, compile_library

PASS_EVERY_SECONDS, SCRAPE_EVERY_SECONDS = 5.0, 15.0
LIMIT_SHARE_OF_A_CORE = 0.01


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of one subject; medians of the rounds."""

    cpu_ms: float
    wall_ms: float
    spread: float


def bare_calls(library: Path, cards: int) -> Callable[[], None]:
    """The floor of a pass: ask the library all that we ask, and forget it."""
    mxsml = Mxsml(library)
    mxsml.initialise()
    plain: tuple[Callable[[int], object], ...] = (
        *(mxsml.device_info, mxsml.board_ways, mxsml.board_power_limit_mw, mxsml.memory, mxsml.xcore_usage_percent),
        *(mxsml.throttle_reasons, mxsml.ecc_errors, mxsml.pcie_link, mxsml.pcie_link_most, mxsml.pcie_throughput),
        *(mxsml.metaxlink_state, mxsml.metaxlink_port_states, mxsml.unavailable_reason),
    )

    def one_pass() -> None:
        for card in range(cards):
            for ask in plain:
                ask(card)
            for sensor in Temperature:
                with suppress(MetricAbsent):
                    mxsml.temperature_centidegrees(card, sensor)
            for domain in Clock:
                mxsml.clocks_mhz(card, domain)
            for direction in Direction:
                mxsml.metaxlink_bandwidth(card, direction)
                mxsml.metaxlink_traffic(card, direction)

    return one_pass


def plain_client(shown: Exposition) -> Callable[[], None]:
    """The floor of a scrape: the client's own objects with the same names and labels, set anew and written."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # ours shows none either
    registry = CollectorRegistry()
    objects: dict[str, Gauge | Counter] = {}
    children: list[Gauge] = []
    for sample in shown.samples:
        names = tuple(sample.labels)
        if sample.name not in objects:
            kind = Counter if sample.name.endswith("_total") else Gauge
            objects[sample.name] = kind(sample.name, "As ours has it", names, registry=registry)
        child = objects[sample.name].labels(**sample.labels) if names else objects[sample.name]
        if isinstance(child, Gauge):
            children.append(child)

    def one_scrape() -> None:
        for number, child in enumerate(children):
            child.set(number)
        generate_latest(registry)

    return one_scrape


def measure(subject: Callable[[], object], times: int) -> tuple[float, float]:
    """CPU and wall milliseconds of one."""
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        subject()
    return (time.process_time() - cpu) / times * 1e3, (time.perf_counter() - began) / times * 1e3


def all_rounds(folder: Path, rounds: int, passes: int, cards: int) -> tuple[dict[str, Measurement], int]:
    """Interleaved: each round goes through all subjects. And how many samples of cards a scrape has."""
    node = GpuNode(folder, compile_library(folder), cards)
    os.environ |= node.environment
    for card in node.cards[:cards]:
        for sensor in Temperature:
            card.centidegrees[sensor] = 5000 + sensor
    kubelet = Kubelet(folder / "kubelet.sock")
    try:
        for number in range(cards):
            kubelet.run("studio", f"engine-{number}", f"GPU-{number:04d}")
        settings = node.settings()
        sampler = Sampler(settings)
        server = ExporterServer(settings, sampler)
        sampler.sample()
        shown = Exposition(server.exposition().decode())
        subjects: dict[str, Callable[[], object]] = {
            "pass: bare calls (floor)": bare_calls(node.library, cards),
            "pass: ours": sampler.sample,
            "scrape: plain client (floor)": plain_client(shown),
            "scrape: ours": server.exposition,
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
        for _ in range(rounds):
            for name, subject in subjects.items():
                measure(subject, max(passes // 10, 1))  # warm
                taken[name].append(measure(subject, passes))
        server.server_close()
    finally:
        kubelet.stop()
    of_cards = sum(CARD_LABELS[0] in sample.labels for sample in shown.samples)
    return {name: _median(of) for name, of in taken.items()}, of_cards


def _median(rounds: list[tuple[float, float]]) -> Measurement:
    cpu, wall = zip(*rounds, strict=True)
    return Measurement(round(median(cpu), 2), round(median(wall), 2), round(max(cpu) / min(cpu), 2))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exporter", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=60, help="passes and scrapes of each round")
    parser.add_argument("--cards", type=int, default=8)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="studio-benchmark-") as folder:
        of, samples = all_rounds(Path(folder), arguments.rounds, arguments.passes, arguments.cards)
    table = Table("subject", "CPU ms", "wall ms", "spread")
    for name, one in of.items():
        table.add_row(name, *(str(value) for value in asdict(one).values()))
    Console(width=100).print(table)
    bare, ours, plain, scrape = of.values()
    share = (ours.cpu_ms / PASS_EVERY_SECONDS + scrape.cpu_ms / SCRAPE_EVERY_SECONDS) / 1e3
    ratios = {
        "share_of_a_core_over_limit": round(share / LIMIT_SHARE_OF_A_CORE, 2),
        "cpu_per_scrape_ours_over_plain_client": round(scrape.cpu_ms / plain.cpu_ms, 2),
        "cpu_per_pass_ours_over_bare_calls": round(ours.cpu_ms / bare.cpu_ms, 2),
    }
    figures = {name: asdict(one) for name, one in of.items()}
    print(json.dumps({"name": "exporter", "ratios": ratios, "samples_of_cards": samples, "figures": figures}))


if __name__ == "__main__":
    main()
