"""What the documents of one invoice cost: PDF with e-invoice inside, UBL, our own rules, the official ones.

Hypothesis. All of it takes less than 150 ms an invoice over many, the official rules included, and our own rules, which
find what those let pass, cost less than the setting of the page.
Sketch. Two XML files 0.5 ms, Typst 10 ms, metadata 10 ms, reading the PDF back 40 ms, schemas 0.5 ms, Saxon 4 x 10 ms.
Peer: the official validators alone, over the same XML in the same run: what any e-invoice must pay. Limit: setting the
page alone, without XML, metadata and rules.
Control: the spread of the rounds (largest over smallest), below which no ratio counts.
Known limits. Content comes from memory: database and object store are not in it. Compiling the rules is in it, once for
each worker, as workers are replaced in the asset, so few invoices cost more. The parts are measured on some of them.
The machine is shared: CPU of this process and of Saxon's is what one can compare, wall time on a quiet machine only.
One invoice follows the other, as in the asset.

Run: make bench NAME=invoices, or python -m benchmarks.invoices [--invoices 1000] [--rounds 3] [--lines 6]."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks import process
from billing.documents import making, pdf, rule_sets
from billing.documents.kinds import Kind
from billing.documents.schematron import MOST_PER_WORKER, Schematron
from billing.documents.snapshot import Snapshot
from tests.billing.documents.samples import CHINESE, CHINESE_INVOICE, line, snapshot

TARGET_MS = 150.0


def snapshots(count: int, lines: int) -> list[Snapshot]:
    """Invoices that differ in number, quantities and, every fourth, in a Chinese buyer."""
    return [
        snapshot(
            number=f"XDE-2026-{number:06d}",
            lines=tuple(line(no, 1_000_000 * no + number * 977, "0.0375") for no in range(1, lines + 1)),
            **({"buyer": {**CHINESE, "country": "DE"}} if number % 4 == 0 else {}),
        )
        for number in range(1, count + 1)
    ]


def whole(official: Schematron, content: Snapshot) -> dict[Kind, bytes]:
    """Everything that publishing does between database and object store."""
    documents = making.make(content)
    today = content.issued_on + timedelta(days=1)
    verdicts = making.judge_by_own_rules(content, documents, (), today)
    verdicts += making.judge_by_official_rules(documents, official)
    wrong = [verdict for verdict in verdicts if not verdict.is_valid]
    if wrong:
        raise SystemExit(f"{content.number} is not valid: {wrong[0]}")
    return documents


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of one subject, by invoice; medians of the rounds."""

    cpu_ms: float
    wall_ms: float
    spread: float  # of CPU


def measure_all(contents: Sequence[Snapshot]) -> Measurement:
    """All documents of every invoice, one after the other, with workers that start and are replaced as in the asset."""
    official = Schematron()
    began, cpu_before = time.perf_counter(), _cpu_with_ended_children()
    try:
        for content in contents:
            whole(official, content)
    finally:
        official.close()
    cpu = (_cpu_with_ended_children() - cpu_before) * 1000 / len(contents)
    return Measurement(cpu, (time.perf_counter() - began) * 1000 / len(contents), 1.0)


def _cpu_with_ended_children() -> float:
    """Seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure_parts(contents: Sequence[Snapshot], rounds: int) -> tuple[dict[str, Measurement], float, float]:
    """What each part takes, by its name, in rounds that take turns.

    Then CPU ms of a worker's start with its first invoice, and the bytes that it grows by for each.
    """
    official = Schematron(most_per_worker=sys.maxsize)  # one worker, so that its CPU can be read to the end
    try:
        made = {content.number: making.make(content) for content in contents}
        whole(official, contents[0])  # compiles the rules
        subjects: dict[str, Callable[[Snapshot], object]] = {
            "documents alone": making.make,
            "own rules alone": lambda content: making.judge_by_own_rules(
                content, made[content.number], (), content.issued_on + timedelta(days=1)
            ),
            "official validators alone": lambda content: making.judge_by_official_rules(made[content.number], official),
            "page alone": lambda content: pdf.render(content, None),
        }
        family = process.tree(os.getpid())
        compiled = process.cpu_seconds(family[1:]) * 1000
        rss_before = process.rss_bytes(family[1:])
        cpu: dict[str, list[float]] = {name: [] for name in subjects}
        wall: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(rounds):
            for name, subject in subjects.items():
                began, cpu_before = time.perf_counter(), process.cpu_seconds(family)
                for content in contents:
                    subject(content)
                cpu[name].append((process.cpu_seconds(family) - cpu_before) * 1000 / len(contents))
                wall[name].append((time.perf_counter() - began) * 1000 / len(contents))
        growth = (process.rss_bytes(family[1:]) - rss_before) / (rounds * len(contents))
    finally:
        official.close()
    by_name = {
        name: Measurement(median(cpu[name]), median(wall[name]), max(cpu[name]) / min(cpu[name])) for name in subjects
    }
    return by_name, compiled, growth


def main() -> None:
    """Measure, print a table and one JSON line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--invoices", type=int, default=60)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--lines", type=int, default=6)
    arguments.add_argument("--parts", type=int, default=60, help="invoices of which the parts are measured, too")
    given = arguments.parse_args()
    contents = snapshots(given.invoices, given.lines)
    first = making.make(contents[0])
    if making.make(contents[0]) != first:
        raise SystemExit("the same snapshot gave other bytes")
    sizes = {kind: len(body) for kind, body in (first | making.make(CHINESE_INVOICE)).items()}
    everything = measure_all(contents)
    measured, compiled, growth = measure_parts(contents[: given.parts], given.rounds)
    each = MOST_PER_WORKER / len(rule_sets.RULE_SETS)  # invoices that share a start
    table = Table("subject", "CPU ms per invoice", "wall ms", "spread")
    measured = {"all documents, judged": everything, **measured}
    for name, one in measured.items():
        table.add_row(name, f"{one.cpu_ms:.1f}", f"{one.wall_ms:.1f}", f"{one.spread:.2f}")
    Console().print(table)
    validators = measured["official validators alone"]
    Console().print(
        f"{len(contents)} invoices: {everything.cpu_ms:.0f} CPU ms and {everything.wall_ms:.0f} ms of"
        f" {TARGET_MS:.0f} ms, of which a worker's start is {compiled / each:.1f} ({compiled:.0f} for {each:.0f});"
        f" it grows by {growth / 1024:.0f} KiB an invoice; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )
    ratios = {
        "all_over_validators": round(everything.cpu_ms / validators.cpu_ms, 2),
        "own_rules_over_page": round(measured["own rules alone"].cpu_ms / measured["page alone"].cpu_ms, 2),
        "cpu_of_target": round(everything.cpu_ms / TARGET_MS, 2),
        "wall_of_target": round(everything.wall_ms / TARGET_MS, 2),
    }
    figures = {
        name: {figure: round(value, 2) for figure, value in asdict(one).items()} for name, one in measured.items()
    }
    print(
        json.dumps(
            {"name": "invoices", "invoices": len(contents), "ratios": ratios, "bytes": sizes, "figures": figures}
        )
    )


if __name__ == "__main__":
    main()
