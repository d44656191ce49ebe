"""One tenant's month by API, with ten million requests of everybody in the table.

Hypothesis. `GET /v1/usage` for a month answers within 50 ms (p99) for every tenant: days that are over are summed
(`billing/usage_sums.py`), and the rows of the day that is not are found by the index of tenant and instant.
Sketch. Plan 30 partitions 3 ms, 500 rows of sums 1 ms, fetch and add the largest tenant's 60,000 rows of one day 0.6 us
each, 300 rows of JSON 3 ms.
Peer: one statement over the events by psycopg, in the gateway's role, with the tenant's eyes. Control: both come to the
same tokens.
Known limits. One client, one request at a time, so it is the time of service. Another load on the machine counts, but
not in the CPU of gateway and database.

Run: make bench NAME=usage_api, or python -m benchmarks.usage_api --events 10000000 --tenants 1000 (10 minutes)."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.process import cpu_seconds
from benchmarks.usage_day import UsageDay, usage_day
from billing import usage_sums
from studio.db.sessions import engine_for, unit_of_work
from studio.tenants import create_key
from tests.serving.gateway_process import GatewayProcess

DAYS = 30


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant that asks, and how many rows are its own."""

    id: UUID
    rows: int
    key: str


def customers(day: UsageDay, count: int) -> list[Customer]:
    """The largest tenant, and `count` around the middle by rows."""
    with day.database.superuser() as connection:
        sizes = connection.execute(
            "select tenant_id, count(*) from usage_events group by tenant_id order by count(*) desc"
        ).fetchall()
    middle = len(sizes) // 2
    chosen = [sizes[0], *sizes[middle - count // 2 : middle + count - count // 2]]
    operator = engine_for(day.database.url("operator"))
    with unit_of_work(operator) as session:
        made = [Customer(id, rows, create_key(session, id, "benchmark", "benchmark").text) for id, rows in chosen]
    operator.dispose()
    return made


def sum_days(day: UsageDay) -> int:
    """As `usage_daily` does it for each day that is over; the last one stands for today."""
    days = [day.day - timedelta(days=number) for number in range(1, DAYS)]
    for one in days:
        with unit_of_work(day.worker) as session:
            usage_sums.sum_day(session, one)
    with day.database.superuser() as connection:
        connection.execute("vacuum analyze usage_sums, usage_summed_days")  # as autovacuum does it meanwhile
    return len(days)


def by_api(client: httpx.Client, customer: Customer, start: date, end: date) -> tuple[float, int]:
    """Milliseconds, and the tokens that came."""
    began = time.perf_counter()
    answer = client.get(
        "/v1/usage", params={"start": str(start), "end": str(end)}, headers={"authorization": f"Bearer {customer.key}"}
    )
    took = time.perf_counter() - began
    rows = answer.raise_for_status().json()["data"]
    return took * 1000, sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)


def by_sql(connection: psycopg.Connection[Any], customer: Customer, start: date, end: date) -> tuple[float, int]:
    """The same without our code."""
    began = time.perf_counter()
    with connection.transaction():
        connection.execute("select set_config('studio.tenant_id', %s, true)", [str(customer.id)])
        rows = connection.execute(_MONTH, {"tenant": customer.id, "start": start, "end": end}).fetchall()
    return (time.perf_counter() - began) * 1000, sum(row[3] + row[5] for row in rows)


def percentile(times: Sequence[float], share: float) -> float:
    """Of the sorted times, the one that `share` of them do not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


@dataclass(frozen=True, slots=True)
class Taken:
    """How long each request took, and CPU of all of them together, both in milliseconds."""

    times: list[float]
    cpu: float


def measure(day: UsageDay, gateway: GatewayProcess, asking: Sequence[Customer], rounds: int) -> dict[str, Taken]:
    """Each way, API and SQL in turns."""
    start, end = day.day - timedelta(days=DAYS), day.day + timedelta(days=2)
    times: dict[str, list[float]] = {"API": [], "SQL": []}
    url = day.database.url("gateway").replace("+psycopg", "")
    with httpx.Client(base_url=gateway.url, timeout=120) as client, psycopg.connect(url) as connection:
        own = (connection.info.backend_pid,)
        for number in range(rounds + 5):
            if number == 5:  # connections and plans are warm
                with day.database.superuser() as superuser:
                    servers = superuser.execute(_SERVERS, [own[0]]).fetchall()
                pids = (gateway.pid, *(pid for (pid,) in servers))
                before = cpu_seconds(pids), cpu_seconds(own)
            customer = asking[number % len(asking)]
            api, tokens = by_api(client, customer, start, end)
            sql, right = by_sql(connection, customer, start, end)
            if tokens != right or not tokens:
                raise SystemExit(f"{tokens} tokens by API, {right} by SQL")
            if number >= 5:
                times["API"].append(api)
                times["SQL"].append(sql)
        used = cpu_seconds(pids) - before[0], cpu_seconds(own) - before[1]
    return {way: Taken(of, cpu * 1000) for (way, of), cpu in zip(times.items(), used, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.usage_api", description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    console = Console(width=100, stderr=True)
    table = Table("tenant", "rows", "way", "p50 ms", "p99 ms", "CPU ms")
    figures: dict[str, dict[str, float]] = {}
    with TemporaryDirectory(prefix="studio-benchmark-") as name:
        folder = Path(name)
        console.log(f"writing {arguments.events:,} events of {arguments.tenants:,} tenants and {DAYS} days")
        with usage_day(folder, arguments.events, arguments.tenants, DAYS) as day:
            console.log(f"{sum_days(day)} days are summed, the last one is not")
            asking = customers(day, 20)
            (folder / "gateway").mkdir()
            with GatewayProcess(day.database, folder / "gateway") as gateway:
                for who, group, rounds in (
                    ("middle", asking[1:], arguments.rounds),
                    ("largest", asking[:1], arguments.rounds // 10),
                ):
                    console.log(f"asking: {who}")
                    for way, taken in measure(day, gateway, group, rounds).items():
                        p50, p99 = (round(percentile(taken.times, share), 1) for share in (0.5, 0.99))
                        cpu = round(taken.cpu / rounds, 1)
                        table.add_row(who, f"{group[0].rows:,}", way, str(p50), str(p99), str(cpu))
                        figures[f"{who}, {way}"] = {"rows": group[0].rows, "p50_ms": p50, "p99_ms": p99, "cpu_ms": cpu}
    Console(width=100).print(table)
    ratios = {
        f"p50_api_over_sql_{who}": round(figures[f"{who}, API"]["p50_ms"] / figures[f"{who}, SQL"]["p50_ms"], 2)
        for who in ("middle", "largest")
    }
    print(json.dumps({"name": "usage_api", "events": arguments.events, "ratios": ratios, "figures": figures}))


_SERVERS = "select pid from pg_stat_activity where usename = 'studio_gateway' and pid <> %s"
_MONTH = """
    select usage_day_utc, variant_id, count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
           sum(reused_prompt_tokens + reused_completion_tokens)
    from usage_events
    where tenant_id = %(tenant)s and usage_day_utc >= %(start)s and usage_day_utc < %(end)s
    group by usage_day_utc, variant_id
    order by usage_day_utc, variant_id
"""

if __name__ == "__main__":
    main()
