"""Dagster's code server and daemon as processes of a test, run as in the stack, on a database that may be dropped."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from local.dagster_home import DagsterHome
from local.ports import MAX_OFFSET, Ports, is_free
from local.services import Service
from tests.local.eventually import eventually
from tests.server import TestDatabase

DATABASE = "dagster_of_batches"


@contextmanager
def running_dagster(database: TestDatabase, folder: Path, settings: Mapping[str, str]) -> Iterator[Dagster]:
    """Runs inside the `with` block, with the batch worker's settings."""
    dagster = Dagster(database, folder, settings)
    try:
        dagster.start_with_an_empty_database()
        dagster.start_code_server()
        yield dagster
        dagster.has_said_nothing_of_the_lines()
    finally:
        dagster.end()


class Dagster:
    """Code server and daemon."""

    def __init__(self, database: TestDatabase, folder: Path, settings: Mapping[str, str]) -> None:
        url = database.server.url("dagster", DATABASE, driver="psycopg2")
        ports = next(
            ports for ports in map(Ports, random.sample(range(5000, MAX_OFFSET, 41), 50)) if is_free(ports.dagster_code)
        )
        environment = {**database.environment("worker"), **settings, "STUDIO_CACHE_SALT_KEY": "a secret of the tests"}
        self._code, self._daemon, _ = DagsterHome(folder, ports, url, environment).services(depends_on=())
        self._database = database
        self._code.prepare()
        self._log_path = folder / "dagster.log"
        self._started: list[subprocess.Popen[bytes]] = []

    def end(self) -> None:
        """Whatever runs, with its runs, and the database."""
        for process in self._started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._drop_database()

    def has_said_nothing_of_the_lines(self) -> None:
        """What lines ask (`orders.line`) is in no log: not of the servers, not of the runs and the workers in them."""
        logs = [path for path in self._log_path.parent.rglob("*") if path.suffix in {".log", ".out", ".err"}]
        assert len(logs) > 1, "the runs' own are there, too"
        said = [(path, found.group()) for path in logs if (found := re.search(r"\bsay \S+", path.read_text()))]
        assert not said

    def start_code_server(self) -> None:
        """It answers."""
        self._code_server = self._start(self._code)
        eventually(self._code.is_ready, "the code server answers", within_seconds=120)

    def kill_code_server(self) -> None:
        """SIGKILL, to it alone."""
        self._code_server.kill()
        self._code_server.wait()

    def start_with_an_empty_database(self) -> None:
        """The daemon, on a new database, in which it has made its tables: two that do so at once disturb each other."""
        self._execute("create database {} owner studio_dagster")
        self._daemon_process = self._start(self._daemon)
        eventually(self._has_tables, "the daemon has made its tables", within_seconds=120)

    def lose_database(self) -> None:
        """It is dropped while it is in use, and the daemon dies with it. Runs go on, if they can."""
        self._drop_database()
        self._daemon_process.kill()
        self._daemon_process.wait()

    def _start(self, service: Service) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            process = subprocess.Popen(
                service.argv, env={**os.environ, **service.env}, stdout=log, stderr=log, start_new_session=True
            )
        self._started.append(process)
        return process

    def _has_tables(self) -> bool:
        """The last of each of Dagster's three storages."""
        url = self._database.server.url("dagster", DATABASE, driver="psycopg2").replace("+psycopg2", "")
        with psycopg.connect(url) as connection:
            query = (
                "select count(*) from pg_tables where tablename in ('runs', 'event_logs', 'jobs', 'alembic_version')"
            )
            return connection.execute(query).fetchone() == (4,)

    def _drop_database(self) -> None:
        self._execute("drop database if exists {} with (force)")

    def _execute(self, statement: str) -> None:
        with self._database.superuser() as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(DATABASE)))
