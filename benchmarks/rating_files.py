"""Rating a day of ten million events from its archive, without a database to make it: `rating.py`'s first rows alone.

Hypothesis. Nothing is kept of an event once it is added: ten million take less than 10 s and 300 MB on one core, at
least twice as fast as pandas and in a fifth of its memory, and ten times the events cost ten times as much, less what
starting costs.
Sketch. Read 12 columns 0.3 us an event, two joins by hash with a few rows each 0.3 us, group 0.2 us.
Peer: pandas over the same files, in the environment of `make peers`. Control: both come to the same lines, tokens and
total, to the last digit; a tenth of the events in the same run.
Known limits. The files are made by duckdb, one a tenant, by the distributions of `usage_day.py`; sealing, archiving and
the table are what `rating.py` measures, with a database that takes half an hour to fill at this size.

Run: make bench NAME=rating_files, or python -m benchmarks.rating_files [--events 10000000] [--tenants 2000]."""

import argparse
import json
import os
import pickle
from dataclasses import asdict
from datetime import date
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from benchmarks.rating import Rated, from_archive, with_pandas
from billing import archive_format
from studio import clock, ids

DAY = date(2026, 11, 26)
START, END = clock.day_window(DAY, clock.BERLIN)
CHANGE = END - (END - START) * 9.5 / 24  # in the afternoon every third variant becomes dearer
ZONES = ("Europe/Berlin", "Europe/London", "Asia/Kathmandu", "America/New_York", "Asia/Shanghai")
VARIANTS = [(f"model-{n // 2}", ("base", "fast")[n % 2], f"variant-{n}", "chat", None, None, None) for n in range(17)]
VARIANTS.append(("embedder", "base", "variant-17", "embedding", None, None, None))
UNITS = ("prompt", "cached_prompt", "completion", "embedding", "reused")
MICROS = 20_000


def tenant_id(rank: int) -> UUID:
    """The same for the same rank."""
    return UUID(int=0x01000000000070008000000000000000 + rank)


def book(tenants: int) -> dict[str, list[tuple[Any, ...]]]:
    """What the day is rated by, in the rows of `rate_archive.Book`."""
    slots = []
    for rank in range(tenants):
        zone = clock.zone(ZONES[rank % len(ZONES)])
        days = sorted({START.astimezone(zone).date(), END.astimezone(zone).date()})
        slots += [(tenant_id(rank), day, "EUR", *clock.day_window(day, zone)) for day in days]
    spans, prices = [], []
    for n, (*_, variant_id, _task, _base, _ms, _most) in enumerate(VARIANTS):
        cuts = [START, CHANGE, END] if n % 3 == 0 else [START, END]
        spans += [("EUR", variant_id, *span) for span in pairwise(cuts)]
        for unit in (name for plain in UNITS for name in (plain, f"batch_{plain}")):
            for dearer, span in enumerate(pairwise(cuts)):
                prices.append((ids.uuid7(), None, "EUR", variant_id, unit, MICROS + 12_347 * dearer, *span))
    return {
        "slots": slots, "variants": list(VARIANTS), "spans": spans, "prices": prices, "quotes": [],
        "quoted_fine_tunes": [], "discarded": [],
    }  # fmt: skip


def write_files(folder: Path, events: int, tenants: int) -> None:
    """One Parquet file a tenant: few tenants have most of the events, few variants, too."""
    duckdb = archive_format.connect(memory_mb=4_000)
    duckdb.execute(f"set temp_directory = '{folder.parent}/spill'; select setseed(0.19)")
    duckdb.execute("create temp table what (no integer, model_id varchar, tier varchar, embeds boolean)")
    duckdb.executemany(
        "insert into what values (?, ?, ?, ?)",
        [(n, model, tier, task == "embedding") for n, (model, tier, _, task, *_) in enumerate(VARIANTS)],
    )
    # Drawn before they are joined, so that each draw is one of its event.
    duckdb.execute(
        """create temp table drawn as
           select g, floor(? * power(random(), 4))::integer as rank, floor(? * power(random(), 2))::integer as no,
                  random() as spared, random() as batched, 1 + floor(power(random(), 3) * 8000)::bigint as prompt,
                  floor(power(random(), 2) * 1200)::bigint as completion
           from range(?) t (g)""",
        [tenants, len(VARIANTS), events],
    )
    duckdb.execute(
        f"""copy (
            select d.rank, 1::integer as seal_no,
                   (printf('01000000-0000-7000-8000-%012x', d.rank))::uuid as tenant_id,
                   '/v1/chat/completions' as endpoint, w.model_id, w.tier as tier_served,
                   case when d.batched < 0.1 and d.spared < 0.9
                        then '00000000-0000-7000-8000-000000000077'::uuid end as batch_id,
                   make_timestamptz({int(START.timestamp() * 1e6)}
                                    + ({int((END - START).total_seconds() * 1e6)} * d.g::hugeint / {events})::bigint)
                       as started_at,
                   null::timestamptz as first_token_at, null::timestamptz as admitted_at, d.prompt as prompt_tokens,
                   case when d.spared < 0.5 and not w.embeds then d.prompt // 2 else 0 end as cached_tokens,
                   case when w.embeds then 0 else d.completion end as completion_tokens,
                   case when d.spared > 0.95 then d.prompt else 0 end as reused_prompt_tokens,
                   case when d.spared > 0.95 and not w.embeds then d.completion else 0 end as reused_completion_tokens
            from drawn d join what w using (no) order by d.rank, d.g
        ) to '{folder}' (format parquet, compression zstd, partition_by (rank))"""  # noqa: S608 (our own numbers)
    )
    for place in sorted(folder.glob("rank=*/*.parquet")):
        place.rename(folder / f"{place.parent.name.removeprefix('rank=')}-{place.name}")
    for place in folder.glob("rank=*"):
        place.rmdir()


def run(events: int, tenants: int) -> dict[str, Rated]:
    """A tenth and the whole, from the archive and with pandas."""
    found = {}
    with TemporaryDirectory(prefix="studio-benchmark-") as name:
        book_file = Path(name) / "book"
        book_file.write_bytes(pickle.dumps(book(tenants)))
        for label, count in (("a tenth", events // 10), ("all", events)):
            folder = Path(name) / f"{count}"
            folder.mkdir()
            write_files(folder, count, tenants)
            found[f"archive, {label}"] = from_archive(folder, book_file)
            if (peer := with_pandas(folder, book_file)) is not None:
                found[f"pandas, {label}"] = peer
    for label in ("a tenth", "all"):
        came_to = {(one.lines, one.tokens, one.total) for way, one in found.items() if way.endswith(label)}
        if len(came_to) != 1:
            raise SystemExit(f"the ways differ: {found}")
    return found


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rating_files", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--tenants", type=int, default=2_000)
    given = parser.parse_args()
    found = run(given.events, given.tenants)
    table = Table("way", "CPU s", "wall s", "peak MB", "lines", "tokens", "total")
    for way, one in found.items():
        table.add_row(
            way, f"{one.cpu_seconds:.2f}", f"{one.seconds:.1f}", f"{one.peak_mb:.0f}", f"{one.lines:,}",
            f"{one.tokens:,}", str(one.total),
        )  # fmt: skip
    Console(width=120).print(table)
    whole, small = found["archive, all"], found["archive, a tenth"]
    ratios = {
        "cpu_all_over_a_tenth": round(whole.cpu_seconds / small.cpu_seconds, 1),
        "memory_all_over_a_tenth": round(whole.peak_mb / small.peak_mb, 2),
    }
    if (peer := found.get("pandas, all")) is not None:
        ratios["cpu_pandas_over_archive"] = round(peer.cpu_seconds / whole.cpu_seconds, 1)
        ratios["memory_pandas_over_archive"] = round(peer.peak_mb / whole.peak_mb, 1)
    figures = {way: asdict(one) | {"total": str(one.total)} for way, one in found.items()}
    load = round(os.getloadavg()[0], 1)
    line = {"name": "rating_files", "events": given.events, "load": load, "ratios": ratios, "figures": figures}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
