"""Our gateway as the server under test: a real one on a real embedded PostgreSQL, in front of engines that run already.

Everything that a request pays for is on: key check, limits, metering, journal, shipping. Node agent, Dagster and S3 are
not there, since no request waits for them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from uuid import UUID

from benchmarks.process import pinned_to
from local.readiness import http_ok
from studio import api_keys, clock
from studio.db.budgets import Budget
from studio.db.catalog import Model, ModelVariant, Price
from studio.db.fleet import Replica
from studio.db.limits import Limit
from studio.db.sessions import engine_for, unit_of_work
from studio.db.tenancy import ApiKey, LegalEntity, Tenant, TenantBilling
from studio.settings import REPOSITORY
from tests.server import TestDatabase, free_port, running_server
from tests.serving.limits.valkey_server import ValkeyServer

START_TIMEOUT_SECONDS = 30
CONTEXT_TOKENS = 32_768


@dataclass(frozen=True, slots=True)
class Gateway:
    """A ready gateway; `database` is what it ships its usage to."""

    url: str
    key: str = field(repr=False)
    pid: int
    database: TestDatabase


@contextmanager
def gateway_in_front_of(engines: Mapping[str, str], *, cores: set[int]) -> Iterator[Gateway]:
    """A gateway process, pinned to `cores`; each engine URL is the one replica of a model of that name."""
    with TemporaryDirectory(prefix="studio-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL is another user when we are root
        with running_server(folder) as server, _valkey(folder, cores) as valkey_url:
            database = server.database()
            key = _declare(database, engines)
            port, internal_port = free_port(), free_port()
            settings = database.environment("gateway", "operator", "shipper") | {
                "STUDIO_ENV": "test",
                "STUDIO_LOG_LEVEL": "WARNING",
                "STUDIO_GATEWAY_PORT": str(port),
                "STUDIO_GATEWAY_INTERNAL_PORT": str(internal_port),
                "STUDIO_JOURNAL_DIR": str(folder / "journal"),
                "STUDIO_CACHE_SALT_KEY": server.postgres.secrets.cache_salt_key,
                "STUDIO_CONTENT_KEY": server.postgres.secrets.content_key,
                "STUDIO_VALKEY_URL": valkey_url,
            }
            with _gateway_process(settings, folder / "gateway.log", internal_port, cores) as process:
                yield Gateway(f"http://127.0.0.1:{port}", key, process.pid, database)


@contextmanager
def _valkey(folder: Path, cores: set[int]) -> Iterator[str]:
    """A Valkey away from the gateway's cores, where there are others; its URL."""
    server = ValkeyServer(folder)
    with pinned_to(os.sched_getaffinity(0) - cores or cores):
        server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _gateway_process(
    settings: Mapping[str, str], log: Path, internal_port: int, cores: set[int]
) -> Iterator["subprocess.Popen[bytes]"]:
    with pinned_to(cores), log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"],
            env=os.environ | settings,
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = monotonic() + START_TIMEOUT_SECONDS
        while not http_ok(f"http://127.0.0.1:{internal_port}/health/ready"):
            if process.poll() is not None or monotonic() > deadline:
                raise RuntimeError(f"the gateway did not become ready:\n{log.read_text()[-2000:]}")
            sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _declare(database: TestDatabase, engines: Mapping[str, str]) -> str:
    """A tenant, its key, and one warm model per engine; returns the key."""
    minted = api_keys.mint()
    owner = engine_for(database.url("owner"))
    with unit_of_work(owner) as session:
        tenant = Tenant(slug="benchmark", name="Benchmark")
        session.add(tenant)
        session.flush()
        key = ApiKey(
            tenant_id=tenant.id,
            name="load",
            prefix=minted.prefix,
            secret_hash=minted.secret_hash,
            scopes=["inference"],
        )
        session.add_all((key, _seller()))
        session.flush()
        session.add_all(_money(tenant.id))
        # Checked, and never reached.
        session.add(Limit(tenant_id=tenant.id, api_key_id=key.id, requests_per_second=1_000_000))
        for name, url in engines.items():
            session.add(_model(name))
            session.flush()
            session.add(_variant(name))
            session.flush()
            session.add_all(_prices(name))
            session.add(_replica(name, url))
    owner.dispose()
    return minted.text


def _seller() -> LegalEntity:
    return LegalEntity(
        id="benchmark",
        name="Benchmark",
        country="DE",
        currency="EUR",
        time_zone="Europe/Berlin",
        invoice_prefix="B",
        details={},
    )


def _money(tenant_id: UUID) -> list[TenantBilling | Budget]:
    """A budget that every request reserves from and settles with, and that is never used up."""
    billing = TenantBilling(
        tenant_id=tenant_id,
        valid_from=clock.now().date() - timedelta(days=1),
        legal_entity_id="benchmark",
        currency="EUR",
        time_zone="Europe/Berlin",
        tax_category="S",
        buyer={},
    )
    return [billing, Budget(tenant_id=tenant_id, kind="monthly", currency="EUR", amount=Decimal(1_000_000))]


def _model(name: str) -> Model:
    return Model(
        id=name,
        name=name,
        publisher="benchmark",
        task="chat",
        vision=False,
        licence="none",
        licence_url="",
        context_tokens=CONTEXT_TOKENS,
    )


def _variant(name: str) -> ModelVariant:
    return ModelVariant(
        id=name,
        model_id=name,
        tier="base",
        context_tokens=CONTEXT_TOKENS,
        weights_id=name,
        weights_bytes=0,
        gpu_count=0,
        max_num_seqs=256,
        suggested_replicas=1,
        engine_flags=[],
        engine_env={},
        deployed=True,
        site_replicas=0,
    )


def _prices(name: str) -> list[Price]:
    yesterday = clock.now() - timedelta(days=1)
    return [
        Price(currency="EUR", variant_id=name, unit=unit, per_million=Decimal(1), valid_from=yesterday)
        for unit in ("prompt", "cached_prompt", "completion")
    ]


def _replica(name: str, url: str) -> Replica:
    return Replica(variant_id=name, kind="attached", state="ready", url=url, engine_model="stub", ready_at=clock.now())
