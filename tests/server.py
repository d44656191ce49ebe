"""A real PostgreSQL of the tests: one server for the whole run, one fresh migrated database for each test that asks.

The database is built once by the migrations and then copied as a template, which takes about 0.1 s.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from local.ports import is_free
from local.postgres import SUPERUSER, EmbeddedPostgres, admit_our_roles
from local.secrets import StackSecrets
from studio.settings import REPOSITORY, DatabaseRole

_numbers = count(1)

# Below the ports that the kernel gives to outgoing connections: one of those could take a port, or leave it waiting,
# before the server that it was found for binds it.
_SERVER_PORTS = range(18_000, 32_000)
_next_port = count(random.SystemRandom().randrange(len(_SERVER_PORTS)))


def free_port() -> int:
    """A loopback port that nobody listens on right now, and that this process has not named before."""
    while not is_free(port := _SERVER_PORTS[next(_next_port) % len(_SERVER_PORTS)]):
        pass
    return port


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """One migrated database."""

    __test__ = False  # not a class of tests

    server: EmbeddedPostgres
    name: str

    def url(self, role: DatabaseRole) -> str:
        """SQLAlchemy's URL for one role."""
        return self.server.url(role, self.name)

    def environment(self, *roles: DatabaseRole) -> dict[str, str]:
        """The settings that give a process these roles."""
        return {f"STUDIO_DATABASE_{role.upper()}_URL": self.url(role) for role in roles}

    def superuser(self) -> psycopg.Connection:
        """For what no role of ours may do: pretending to be a bad day."""
        return _superuser(self.server, self.name)


@dataclass(frozen=True, slots=True)
class TestServer:
    """The server with its migrated template."""

    __test__ = False

    postgres: EmbeddedPostgres
    template: str = "studio"

    def database(self) -> TestDatabase:
        """A fresh copy."""
        name = f"studio_test_{next(_numbers)}"
        self._copy(name, self.template)
        return TestDatabase(self.postgres, name)

    def empty_database(self) -> TestDatabase:
        """A database without a table, owned by the owner role: where migrations start."""
        name = f"studio_empty_{next(_numbers)}"
        self._copy(name, "template0")
        return TestDatabase(self.postgres, name)

    def _copy(self, name: str, template: str) -> None:
        with _superuser(self.postgres, "postgres") as connection:
            statement = sql.SQL("create database {} template {} owner studio_owner")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
            admit_our_roles(connection, name)  # a copy has the tables' rights of its template, and none of its own


def migrate(url: str, target: str = "head", direction: str = "upgrade") -> None:
    """Run Alembic as an operator would."""
    subprocess.run(
        [sys.executable, "-m", "alembic", direction, target],
        cwd=REPOSITORY,
        env=os.environ | {"STUDIO_DATABASE_OWNER_URL": url},
        check=True,
        capture_output=True,
    )


@contextmanager
def running_server(folder: Path) -> Iterator[TestServer]:
    """Start PostgreSQL in `folder`, migrate the template, stop it at the end."""
    postgres = EmbeddedPostgres(folder / "pg", free_port(), StackSecrets())
    service = postgres.service()
    postgres.prepare()
    with (folder / "postgres.log").open("wb") as log:
        # The tests' data dies with them; whether PostgreSQL keeps its promises is not what they test.
        argv = [*service.argv, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        process = subprocess.Popen(argv, user=service.os_user, cwd="/", stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not postgres.is_ready():
            assert process.poll() is None, (folder / "postgres.log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL was not ready within 30 s"
            time.sleep(0.1)
        postgres.furnish()
        migrate(postgres.url("owner"))
        yield TestServer(postgres)
    finally:
        process.send_signal(service.stop_signal)
        process.wait(timeout=30)


def _superuser(postgres: EmbeddedPostgres, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=postgres.port,
        user=SUPERUSER,
        password=postgres.secrets.database_superuser,
        dbname=database,
        autocommit=True,
    )
