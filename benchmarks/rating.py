"""Rating a day: from the sealed archive and from the table, beside pandas and plain SQL; then reconciling it.

Hypothesis. Rating is cheap when nothing is kept of an event once it is added: ten million events from the archive take
less than 10 s and 300 MB on one core, from the table less than 30 s.
Sketch. Archive: read 12 columns 0.3 us an event, two joins by hash with a few rows each 0.3 us, group 0.2 us. Table:
fetch a row 0.5 us, the same joins 1 us, civil day 0.5 us.
Peers: pandas (all into memory, merge, group; in the environment of `make peers`, skipped where it has no pandas) and
one statement of plain SQL that joins every event with its prices. Control: all ways must come to the same lines, tokens
and total, to the last digit, and every seal must reconcile; linear: a tenth of the archive beside all of it; the day
once more, when it is closed.
Known limits. CPU seconds count; the table's memory is that of its own server process without what is shared.

Run: make bench NAME=rating, or python -m benchmarks.rating --events 10000000 --tenants 2000 (about 15 minutes)."""

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.process import cpu_seconds
from benchmarks.usage_day import UsageDay, usage_day
from billing import (
    archive,
    archive_format,
    gpu_seconds,
    rate_archive,
    rated_lines,
    reconcile,
    unsealed,
    usage,
    usage_groups,
    windows,
)
from billing.rate_archive import PICO
from local.objects import EmbeddedObjectStore
from local.secrets import StackSecrets
from studio import clock
from studio.db.sessions import unit_of_work
from studio.objects import ObjectStore
from tests.local.servers import client, free_ports, serving

PEERS_PYTHON = Path("build/peers/bin/python")
RECONCILING = "reconciling"


@dataclass(frozen=True, slots=True)
class Rated:
    """What a way came to, and what it took."""

    lines: int
    tokens: int
    total: Decimal
    cpu_seconds: float
    seconds: float
    peak_mb: float


def prepare(day: UsageDay, store: ObjectStore, say: Callable[[str], None]) -> None:
    """Seal and archive the day, tenant by tenant, as production does."""
    with unit_of_work(day.worker) as session:
        found = unsealed.of_all_days(session)

    def seal(window: unsealed.UnsealedWindow) -> None:
        with unit_of_work(day.worker) as session:
            windows.seal(
                session, window_day=window.window_day, tenant_id=window.tenant_id, by="benchmark", reason="benchmark",
                cutoff=windows.closes_at(window.window_day), now=clock.now(),
            )  # fmt: skip

    def put(keys: Sequence[windows.SealKey]) -> None:
        duckdb = archive_format.connect()
        for key in keys:
            with unit_of_work(day.worker) as session:
                archive.archive_seal(session, store, duckdb, key, clock.now())

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as threads:  # almost all of it is done by the server's processes and by duckdb
        list(threads.map(seal, found))
        say(f"{len(found)} seals; archiving")
        with unit_of_work(day.worker) as session:
            keys = archive.waiting(session, day.day)
        list(threads.map(put, [keys[n::cores] for n in range(cores)]))


def from_archive(folder: Path, book: Path) -> Rated:
    """A process of its own: `rate_archive` over the files."""
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.rating", "--rate", str(folder), "--book", str(book)]
    lines, tokens, total, cpu, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return Rated(int(lines), int(tokens), Decimal(total), float(cpu), time.monotonic() - began, float(peak) / 1024)


def rate_here(folder: Path, book: Path) -> None:
    """What that process does."""
    with book.open("rb") as file:
        rows = pickle.load(file)  # noqa: S301 (the benchmark's own)
    duckdb = rate_archive.rated_files(f"{folder}/*.parquet", rate_archive.Book(**rows))
    print(*rate_archive.total(duckdb), time.process_time(), peak_kb("self"))


def with_pandas(folder: Path, book: Path) -> Rated | None:
    """None where there is no pandas."""
    probe = [str(PEERS_PYTHON), "-c", "import pandas, pyarrow"]
    if not PEERS_PYTHON.exists() or subprocess.run(probe, check=False, capture_output=True).returncode:
        return None
    began, before = time.monotonic(), os.times()
    command = [str(PEERS_PYTHON), "benchmarks/rate_with_pandas.py", str(folder), str(book)]
    lines, tokens, pico, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Rated(int(lines), int(tokens), int(pico) * PICO, cpu, time.monotonic() - began, float(peak) / 1024)


def from_table(day: UsageDay) -> Rated:
    """Production's own way: count and rate every seal that is not done, as the assets do."""
    with measured(day) as took:
        with unit_of_work(day.worker) as session:
            seals = windows.seals(session, window_day=day.day, states=("sealed", "counted", "held"))
        keys = {seal.key for seal in seals}
        with unit_of_work(day.worker) as session:
            if rest := keys - usage.count_together(session, day.day, keys):
                raise SystemExit(f"usage of {len(rest)} seals has no price")
        with unit_of_work(day.worker) as session:
            rated_lines.rate_seals(session, day.day, keys)
    with unit_of_work(day.worker) as session:
        row = session.execute(_RATED, {"day": day.day}).one()
    return Rated(row[0], int(row[1]), row[2], *took)


def reconciled(day: UsageDay) -> Rated:
    """What follows: every seal against engines, trainers and GPU seconds, as the asset does it.

    The day has one engine that was never idle, and a reading of it after every hundredth of the day.
    """
    with day.database.superuser() as connection:
        psycopg.ClientCursor(connection).execute(_ENGINE, {"start": day.span[0], "end": day.span[1]})
    now = day.span[1] + timedelta(days=1)
    with measured(day) as took:
        with unit_of_work(day.worker) as session:
            seals = windows.seals(session, window_day=day.day, states=["rated"])
        keys = [seal.key for seal in seals]
        with unit_of_work(day.worker) as session:
            worked = gpu_seconds.of_day(session, day.day, now)
            counts = reconcile.counts_of(session, day.day, keys, now)
        compared = {key: [*counts[key], *worked.get(key.tenant_id, [])] for key in keys}
        with unit_of_work(day.worker) as session:
            found = reconcile.settle_all(session, day.day, compared, now)
    if uneven := [key for key, comparisons in found.items() if not all(one.agrees for one in comparisons)]:
        raise SystemExit(f"{len(uneven)} seals do not reconcile: {found[uneven[0]]}")
    return Rated(len(keys), 0, Decimal(0), *took)


def with_plain_sql(day: UsageDay) -> Rated:
    """One statement, each event joined with its prices; it has the settings that ours has, and one process, too."""
    with measured(day) as took, unit_of_work(day.worker) as session:
        session.execute(text("set local max_parallel_workers_per_gather = 0"))
        session.execute(usage_groups.READ_IN_A_ROW)  # without it, ten million are sorted on disk, 40 GB of them
        row = session.execute(_PLAIN, {"day": day.day}).one()
    return Rated(row[0], int(row[1]), row[2], *took)


@contextmanager
def measured(day: UsageDay) -> Iterator[list[float]]:
    """CPU of this process and of its one server process, seconds, and the latter's peak of memory of its own in MB."""
    day.worker.dispose()  # a server process of its own
    with Session(day.worker) as session:
        pid = session.scalars(text("select pg_backend_pid()")).one()
    took: list[float] = []
    began, here, there = time.monotonic(), time.process_time(), cpu_seconds((pid,))
    yield took
    cpu = time.process_time() - here + cpu_seconds((pid,)) - there
    took += [cpu, time.monotonic() - began, (peak_kb(str(pid)) - peak_kb(str(pid), "RssShmem")) / 1024]


def peak_kb(pid: str, field: str = "VmHWM") -> int:
    """A figure of memory of a process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1))


def tenth(day: UsageDay, folder: Path, target: Path) -> int:
    """Copy files with about a tenth of the events; how many events they have."""
    target.mkdir()
    duckdb, events = archive_format.connect(), 0
    sizes = duckdb.execute(
        f"select filename, count(*) from read_parquet('{folder}/*.parquet', filename = true) group by 1 order by 2"  # noqa: S608
    ).fetchall()
    wanted = sum(size for _, size in sizes) / 10
    for name, size in sizes:
        if events + size <= wanted * 1.05:
            shutil.copy(name, target)
            events += size
    return events


def run(events: int, tenants: int, say: Callable[[str], None]) -> tuple[dict[str, Rated], dict[str, float]]:
    """All ways over one day."""
    with TemporaryDirectory(prefix="studio-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        say(f"writing {events:,} events of {tenants:,} tenants")
        embedded = EmbeddedObjectStore(folder / "s3", folder, free_ports(), StackSecrets())
        with usage_day(folder, events, tenants) as day, serving(embedded.service(), folder):
            embedded.prepare()
            store = client(embedded, embedded.secrets.s3_secret_key)
            say("sealing")
            prepare(day, store, say)
            with unit_of_work(day.worker) as session:
                book = folder / "book"
                made = rate_archive.book_of(session, day.day)
                book.write_bytes(pickle.dumps({name: list(getattr(made, name)) for name in made.__slots__}))
                rows = archive.archived(session, day.day)
                with archive.fetched(store, rows) as fetched:
                    say("rating")
                    files = fetched.folder
                    small = tenth(day, files, folder / "tenth")
                    ways = {
                        "archive": from_archive(files, book),
                        "archive, a tenth": from_archive(folder / "tenth", book),
                        "pandas": with_pandas(files, book),
                    }
            for way, rate in {
                "table": from_table,
                "table, once more": from_table,
                "plain SQL": with_plain_sql,
                RECONCILING: reconciled,
            }.items():
                say(way)
                ways[way] = rate(day)
    found = {way: rated for way, rated in ways.items() if rated is not None}
    all_of_it = [rated for way, rated in found.items() if way not in ("archive, a tenth", RECONCILING)]
    whole = {(rated.lines, rated.tokens, rated.total) for rated in all_of_it}
    if len(whole) != 1:
        raise SystemExit(f"the ways differ: {found}")
    per_event = found["archive"].cpu_seconds / events / (found["archive, a tenth"].cpu_seconds / small)
    ratios = {
        "cpu_per_event_all_over_a_tenth": round(per_event, 2),
        "cpu_once_more_over_first": round(found["table, once more"].cpu_seconds / found["table"].cpu_seconds, 3),
        "cpu_reconciling_over_table": round(found[RECONCILING].cpu_seconds / found["table"].cpu_seconds, 2),
        "cpu_plain_sql_over_archive": round(found["plain SQL"].cpu_seconds / found["archive"].cpu_seconds, 1),
        "cpu_plain_sql_over_table": round(found["plain SQL"].cpu_seconds / found["table"].cpu_seconds, 2),
    }
    if "pandas" in found:
        ratios["cpu_pandas_over_archive"] = round(found["pandas"].cpu_seconds / found["archive"].cpu_seconds, 1)
        ratios["memory_pandas_over_archive"] = round(found["pandas"].peak_mb / found["archive"].peak_mb, 1)
    return found, ratios


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rating", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--rate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--book", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rate:
        rate_here(arguments.rate, arguments.book)
        return
    console = Console(width=120, stderr=True)
    found, ratios = run(arguments.events, arguments.tenants, console.log)
    table = Table("way", "CPU s", "wall s", "peak MB", "lines", "tokens", "total")
    for way, rated in found.items():
        table.add_row(
            way, f"{rated.cpu_seconds:.2f}", f"{rated.seconds:.1f}", f"{rated.peak_mb:.0f}", f"{rated.lines:,}",
            f"{rated.tokens:,}", str(rated.total),
        )  # fmt: skip
    Console(width=120).print(table)
    if "pandas" not in found:
        print("pandas was left out: `make peers` installs it.")
    figures = {way: asdict(rated) | {"total": str(rated.total)} for way, rated in found.items()}
    print(json.dumps({"name": "rating", "events": arguments.events, "ratios": ratios, "figures": figures}))


# The engine's own figures are the events', so that all agree. A request lasts two seconds.
_ENGINE = """
    insert into replicas (id, variant_id, kind, state, url, engine_model, created_at, max_num_seqs)
    select '00000000-0000-7000-8000-000000000099', min(id), 'process', 'ready', '', 'x', %(start)s, 1000000
    from model_variants;
    insert into engine_counters (replica_id, observed_at, requests, prompt_tokens, completion_tokens)
    select '00000000-0000-7000-8000-000000000099', t.at, 1, coalesce(sum(e.prompt) over (order by t.at), 0),
           coalesce(sum(e.completion) over (order by t.at), 0)
    from (select g, %(start)s::timestamptz + g * (%(end)s::timestamptz - %(start)s::timestamptz) / 100 as at
          from generate_series(1, 101) g) t
    left join (
        select width_bucket(extract(epoch from started_at), extract(epoch from %(start)s::timestamptz),
                            extract(epoch from %(end)s::timestamptz), 100) as g,
               sum(prompt_tokens) as prompt, sum(completion_tokens) as completion
        from usage_events group by 1) e on e.g = t.g
"""

_RATED = text("select count(*), sum(tokens), sum(amount) from rated_lines where window_day = :day")

_PLAIN = text("""
    with ranges as materialized (
        select w.window_day, w.tenant_id, w.seal_no, r.*
        from usage_windows w
        cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
        where w.window_day = :day
    ), events as (
        select r.seal_no, e.*, t.currency, (e.started_at at time zone t.time_zone)::date as billing_day,
               v.id as variant, m.task
        from ranges r
        join usage_events e on e.tenant_id = r.tenant_id and e.source_id = r.source_id
             and e.source_seq >= r.from_seq
             and e.source_seq < r.until_seq and (e.started_at at time zone 'Europe/Berlin')::date = r.window_day
        join tenant_billing t on t.tenant_id = e.tenant_id
        join model_variants v on v.model_id = e.model_id and v.tier = e.tier_served
        join models m on m.id = e.model_id
    ), units as (
        select e.tenant_id, e.seal_no, e.variant, e.currency, e.billing_day, e.started_at, u.tokens,
               case when e.batch_id is null then u.unit else 'batch_' || u.unit end as unit
        from events e
        cross join lateral (values
            ('embedding', case when task = 'embedding' then prompt_tokens - reused_prompt_tokens else 0 end),
            ('prompt', case when task = 'embedding' then 0
                       else prompt_tokens - cached_tokens - reused_prompt_tokens end),
            ('cached_prompt', case when task = 'embedding' then 0 else cached_tokens end),
            ('completion', completion_tokens - reused_completion_tokens),
            ('reused', reused_prompt_tokens + reused_completion_tokens)) as u (unit, tokens)
        where u.tokens > 0
    ), lines as (
        select sum(u.tokens) as tokens, sum(u.tokens * p.per_million) / 1000000 as amount
        from units u
        join prices p on p.currency = u.currency and p.variant_id = u.variant and p.unit = u.unit
             and p.valid_from <= u.started_at and (p.valid_until is null or u.started_at < p.valid_until)
        group by u.tenant_id, u.seal_no, u.variant, u.unit, p.id, u.billing_day, u.currency
    )
    select count(*), sum(tokens), sum(amount) from lines
""")

if __name__ == "__main__":
    main()
