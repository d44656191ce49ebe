"""Our gateway as the server under test: a real one on a real embedded PostgreSQL, in front of engines that run already.

Everything that a request pays for is on: key check, limits, metering, journal, shipping. Node agent, Dagster and S3 are
not there, since no request waits for them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from benchmarks import catalog
from benchmarks.process import pinned_to
from local.readiness import http_ok
from studio.db.sessions import engine_for, unit_of_work
from studio.settings import REPOSITORY
from tests.server import TestDatabase, free_port, running_server
from tests.serving.limits.valkey_server import ValkeyServer

START_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Gateway:
    """A ready gateway, of one process or of several that share its port; `database` is what it ships its usage to."""

    url: str
    key: str = field(repr=False)
    pids: tuple[int, ...]
    internal_urls: tuple[str, ...]
    database: TestDatabase


def gateway_in_front_of(
    engines: Mapping[str, str], *, cores: set[int], workers: int = 1
) -> AbstractContextManager[Gateway]:
    """Gateway processes, pinned to `cores`; each engine URL is the one replica of a model of that name."""
    return gateway_with(lambda database: _declare(database, engines), cores=cores, workers=workers)


@contextmanager
def gateway_with(declare: Callable[[TestDatabase], str], *, cores: set[int], workers: int = 1) -> Iterator[Gateway]:
    """On a database that `declare` has filled; it returns a tenant's key."""
    with TemporaryDirectory(prefix="studio-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL is another user when we are root
        with running_server(folder) as server, _valkey(folder, cores) as valkey_url:
            database = server.database()
            key = declare(database)
            port = free_port()
            settings = database.environment("gateway", "operator", "shipper") | {
                "STUDIO_ENV": "test",
                "STUDIO_LOG_LEVEL": "WARNING",
                "STUDIO_GATEWAY_PORT": str(port),
                "STUDIO_GATEWAY_SHARES_PORT": str(workers > 1),
                "STUDIO_JOURNAL_DIR": str(folder / "journal"),
                "STUDIO_CACHE_SALT_KEY": server.postgres.secrets.cache_salt_key,
                "STUDIO_CONTENT_KEY": server.postgres.secrets.content_key,
                "STUDIO_VALKEY_URL": valkey_url,
            }
            with ExitStack() as stack:
                internal_ports = [free_port() for _ in range(workers)]
                processes = [
                    stack.enter_context(_gateway_process(settings, folder / f"{number}.log", internal_port, cores))
                    for number, internal_port in enumerate(internal_ports)
                ]
                yield Gateway(
                    f"http://127.0.0.1:{port}",
                    key,
                    tuple(process.pid for process in processes),
                    tuple(f"http://127.0.0.1:{internal_port}" for internal_port in internal_ports),
                    database,
                )


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
            env=os.environ | settings | {"STUDIO_GATEWAY_INTERNAL_PORT": str(internal_port)},
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
    owner = engine_for(database.url("owner"))
    with unit_of_work(owner) as session:
        catalog.add_seller(session)
        key = catalog.add_tenant(session, "benchmark", requests_per_second=catalog.PLENTY, budget=catalog.PLENTY)
        for name, url in engines.items():
            catalog.add_model(session, name, [url])
    owner.dispose()
    return key
