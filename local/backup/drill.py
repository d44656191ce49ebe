"""The restore drill: the newest backup is restored into a PostgreSQL of its own, and must be what its manifest says.

A backup that was never restored is a hope. The scratch server lives for the drill and touches nothing else.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from billing import chain
from local import os_user
from local.backup.dump import BackupFailed, Manifest, fetch
from local.backup.facts import Deviation, deviations, read_facts
from local.ports import is_free
from local.postgres import SUPERUSER, EmbeddedPostgres, binary
from local.secrets import StackSecrets
from studio.db.sessions import engine_for, unit_of_work
from studio.objects import Bucket, ObjectStore

_START_SECONDS = 60.0
_PORTS = range(17_000, 17_900)
_FINAL_IS_FINAL = "update invoices set net = net + 1 where state = 'final'"


@dataclass(frozen=True, slots=True)
class Drill:
    """What a drill has shown."""

    backup: str
    seconds: float
    tables: int
    rows: int
    deviations: tuple[Deviation, ...]

    @property
    def passed(self) -> bool:
        """Whether the copy is the original."""
        return not self.deviations


def drill(store: ObjectStore, manifest: Manifest) -> Drill:
    """Restore a backup and compare. BackupFailed when it cannot be fetched or restored."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="studio-drill-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL is another user when we are root
        dump = folder / "studio.dump"
        fetch(store, manifest, dump)
        with _scratch(folder) as postgres:
            _restore(postgres, dump)
            found = list(_compare(postgres, store, manifest))
    rows = manifest.facts.rows
    return Drill(manifest.name, time.monotonic() - began, len(rows), sum(rows.values()), tuple(found))


def _compare(postgres: EmbeddedPostgres, store: ObjectStore, manifest: Manifest) -> Iterator[Deviation]:
    # Days that were closed after the backup are in the copy of the chain, and cannot be in the database.
    kept = chain.from_json(store.get(Bucket.INVOICES, chain.COPY))
    engine = engine_for(postgres.url("owner"), pool_size=1)
    with unit_of_work(engine) as session:
        until = manifest.taken_at.date()
        facts, broken = read_facts(session, {day: link for day, link in kept.items() if day < until})
    engine.dispose()
    if broken is not None:
        yield Deviation("ledger_chain", "unbroken", broken)
    yield from deviations(manifest.facts, facts)
    if facts.rows.get("invoices") and not _refuses(postgres, _FINAL_IS_FINAL):
        yield Deviation("final invoices", "refuse every change", "were changed")


def _refuses(postgres: EmbeddedPostgres, statement: str) -> bool:
    with _superuser(postgres) as connection:
        try:
            changed = connection.execute(statement).rowcount
        except psycopg.Error:
            return True
        finally:
            connection.rollback()
    return changed == 0


def _restore(postgres: EmbeddedPostgres, dump: Path) -> None:
    done = subprocess.run(
        [
            *(str(binary("pg_restore")), "--exit-on-error", "--single-transaction", "--dbname=studio"),
            *("--host=127.0.0.1", f"--port={postgres.port}", f"--username={SUPERUSER}", str(dump)),
        ],
        env={"PGPASSWORD": postgres.secrets.database_superuser, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupFailed(f"pg_restore failed: {done.stderr.strip()}")


@contextmanager
def _scratch(folder: Path) -> Iterator[EmbeddedPostgres]:
    port = next(port for port in _PORTS if is_free(port))
    postgres = EmbeddedPostgres(folder / "postgres", port, StackSecrets())
    service = postgres.service()
    postgres.prepare()
    with (folder / "postgres.log").open("wb") as log:
        # What is restored here is thrown away: nothing need reach the disk.
        argv = [*service.argv, "-c", "fsync=off", "-c", "full_page_writes=off"]
        process = subprocess.Popen(argv, user=os_user.unprivileged(), cwd="/", stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not postgres.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BackupFailed(f"the scratch server did not start: {(folder / 'postgres.log').read_text()[-500:]}")
            time.sleep(0.2)
        postgres.furnish()
        yield postgres
    finally:
        process.send_signal(service.stop_signal)
        process.wait(timeout=30)


def _superuser(postgres: EmbeddedPostgres) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=postgres.port,
        user=SUPERUSER,
        password=postgres.secrets.database_superuser,
        dbname="studio",
    )
