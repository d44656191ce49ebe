"""What being watched costs the services: CPU of one scrape of a gateway and of the metrics of the database's state.

Hypothesis. At one scrape every 15 s both cost less than 1 % of a core (the limit, as for the exporter of the cards).
Sketch. A gateway writes some 300 samples at 8 us: 3 ms. The state is 20 queries at 1 ms and 60 samples: 25 ms on a
small database, most of it PostgreSQL's own. Read again at most every 10 s, so a scrape costs one reading.
Control: the spread of the rounds (largest over smallest), below which no difference counts.
With --tenants each of them used three models on the newest day: what grows with customers are samples by tenant.
Known limits. The gateway is measured as a whole process, idle beside the scrapes; PostgreSQL's CPU is not in the figure
of the state, its wall time is. The database is small: queries are bounded by design, not measured on years of rows.

Run: python -m benchmarks.scrape [--rounds 5] [--scrapes 40] [--tenants 500]."""

import argparse
import json
import time
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from rich.table import Table

from benchmarks.process import cpu_seconds
from serving.state_metrics.collector import StateCollector
from studio.db.sessions import engine_for
from tests.k8s.exporter.node import compile_library
from tests.k8s.monitoring.installation import running
from tests.server import running_server

SCRAPE_EVERY_SECONDS = 15.0
LIMIT_SHARE_OF_A_CORE = 0.01
_TENANTS = (
    "insert into tenants (slug, name) select 'tenant-' || n, 'n' from generate_series(1, %s) n",
    """
    insert into margin_daily (day, tenant_id, variant_id, running_variant_id, currency, busy_seconds, share,
                              card_seconds, kwh, energy_cost, card_cost, cost, revenue, units_per_euro, margin)
        select current_date - 1, t.id, v.id, v.id, 'EUR', 1, 0.001, 60, 0.01, 0.002, 0.02, 0.022, 1, 1, 0.978
        from tenants t, unnest(array['qwen3-32b', 'mistral-7b-v0.1', 'qwen2.5-vl-7b']) v (id)
        where t.slug like 'tenant-%%'
    """,
)


def get(url: str) -> bytes:
    """The body."""
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # our own loopback URL
        body: bytes = answer.read()
    return body


def cpu_of(pid: int, act: Callable[[], object], times: int) -> float:
    """CPU milliseconds that a process takes for one act."""
    before = cpu_seconds((pid,))
    for _ in range(times):
        act()
    return (cpu_seconds((pid,)) - before) / times * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scrape", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scrapes", type=int, default=40, help="scrapes of each round")
    parser.add_argument("--tenants", type=int, default=0, help="more tenants, each with margins of three models")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="studio-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_server(folder) as server, running(server, compile_library(folder), folder) as installation:
            with installation.house.database.superuser() as connection:
                connection.execute(_TENANTS[0], [arguments.tenants])
                connection.execute(_TENANTS[1])
            for _ in range(20):
                installation.is_used()
            url = f"{installation.gateway.internal_url}/metrics"
            samples = sum(not line.startswith(b"#") for line in get(url).splitlines())
            of_gateway = [
                cpu_of(installation.gateway.pid, lambda: get(url), arguments.scrapes) for _ in range(arguments.rounds)
            ]
            auditor = engine_for(installation.house.database.url("auditor"), pool_size=1)
            registry = CollectorRegistry()
            registry.register(StateCollector(auditor, keep_for=timedelta(0)))
            of_state, wall = [], []
            for _ in range(arguments.rounds):
                cpu, began = time.process_time(), time.perf_counter()
                for _ in range(arguments.scrapes):
                    text = generate_latest(registry)
                of_state.append((time.process_time() - cpu) / arguments.scrapes * 1e3)
                wall.append((time.perf_counter() - began) / arguments.scrapes * 1e3)
            auditor.dispose()
            of_state_samples = sum(not line.startswith(b"#") for line in text.splitlines())
    table = Table("subject", "CPU ms", "wall ms", "spread", "samples")
    table.add_row("gateway", f"{median(of_gateway):.2f}", "", f"{max(of_gateway) / min(of_gateway):.2f}", str(samples))
    table.add_row(
        "state",
        f"{median(of_state):.2f}",
        f"{median(wall):.1f}",
        f"{max(of_state) / min(of_state):.2f}",
        str(of_state_samples),
    )
    Console(width=100).print(table)
    ratios = {
        f"{subject}_share_of_a_core_over_limit": round(
            median(cpu) / 1e3 / SCRAPE_EVERY_SECONDS / LIMIT_SHARE_OF_A_CORE, 3
        )
        for subject, cpu in (("gateway", of_gateway), ("state", of_state))
    }
    print(json.dumps({"name": "scrape", "ratios": ratios}))


if __name__ == "__main__":
    main()
