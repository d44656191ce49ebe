"""Ingest: from a gateway's journal by staging into the table, as the shipper does it, beside raw COPY.

Hypothesis. Exactly once costs at most as much again as writing: at least half of the rows a second that COPY brings
straight into the same table with the same indexes.
Sketch. Decode a record 3 us, a row of COPY 10 us, the insert with three indexes 15 us; besides: staging 5 us, the
conflicts 5 us.
Limit: COPY of the same rows into `usage_events`, without staging or a look at conflicts; decoding counts for both.
Control: afterwards every event is there once. Known limits. The tests' server does not sync to disk.

Run: make bench NAME=ingest, or python -m benchmarks.ingest [--events 100000] [--rounds 3]."""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import UUID

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.process import cpu_seconds
from serving import shipper
from serving.journal_segments import read_records
from tests.server import TestDatabase, running_server
from tests.serving.journals import write

Way = Callable[[psycopg.Connection, Path], None]


def by_shipper(connection: psycopg.Connection, journal: Path) -> None:
    """The shipper's own functions, shipment by shipment."""
    shipper._adopt(connection, journal.parent, UUID(journal.parent.name))


def by_copy(connection: psycopg.Connection, journal: Path) -> None:
    """The limit: as many rows at once, straight into the table."""
    source_id = UUID(journal.parent.name)
    columns = shipper._COLUMNS[2:]
    records = (record for record, _ in read_records(journal))
    while batch := list(islice(records, shipper.SHIPMENT_RECORDS)):
        with (
            connection.transaction(),
            connection.cursor() as cursor,
            cursor.copy(f"copy usage_events ({', '.join(columns)}) from stdin") as copy,
        ):
            for record in batch:
                copy.write_row((source_id, record.source_seq, *msgspec.structs.astuple(record.event)))


def measure(database: TestDatabase, way: Way, journal: Path, events: int) -> tuple[float, float]:
    """Rows a second, and CPU microseconds a row of client and server together."""
    with _connect(database, way) as connection:
        connection.autocommit = True
        server = (connection.info.backend_pid,)
        began, here, there = time.monotonic(), time.process_time(), cpu_seconds(server)
        way(connection, journal)
        seconds = time.monotonic() - began
        cpu = time.process_time() - here + cpu_seconds(server) - there
    with database.superuser() as connection:
        found = connection.execute("select count(*), count(distinct id) from usage_events").fetchone()
    if found != (events, events):
        raise SystemExit(f"{events} were sent, {found} are there")
    return events / seconds, cpu / events * 1e6


def _connect(database: TestDatabase, way: Way) -> psycopg.Connection:
    """Raw COPY is refused to everybody under row-level security, so its limit is a superuser's."""
    if way is by_copy:
        return database.superuser()
    return psycopg.connect(database.url("shipper").replace("+psycopg", ""), options="-c timezone=UTC")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {"journal to table": [], "raw COPY": []}
    with TemporaryDirectory(prefix="studio-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_server(folder) as server:
            for number in range(arguments.rounds):
                for way, of in ((by_shipper, "journal to table"), (by_copy, "raw COPY")):
                    database = server.database()
                    with database.superuser() as connection:
                        connection.execute("select ensure_usage_partition(current_date)")
                    journal, _ = asyncio.run(write(folder / f"{way.__name__}-{number}", arguments.events))
                    taken[of].append(measure(database, way, journal, arguments.events))
    figures = {of: [round(median(column), 1) for column in zip(*rounds, strict=True)] for of, rounds in taken.items()}
    table = Table("way", "rows/s", "CPU us/row")
    for of, (rate, cpu) in figures.items():
        table.add_row(of, f"{rate:,.0f}", f"{cpu:.1f}")
    Console(width=100).print(table)
    ours, limit = figures.values()
    ratios = {
        "rows_per_second_ours_over_copy": round(ours[0] / limit[0], 2),
        "cpu_copy_over_ours": round(limit[1] / ours[1], 2),
    }
    print(json.dumps({"name": "ingest", "events": arguments.events, "ratios": ratios, "figures": figures}))


if __name__ == "__main__":
    main()
