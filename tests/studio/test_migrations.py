"""The migrations lead up and down again, and say what the models say."""

from __future__ import annotations

import os
import subprocess
import sys

from sqlalchemy import CheckConstraint

from studio.db import Base
from studio.settings import REPOSITORY
from tests.server import TestServer, migrate


def test_up_down_and_up_again(server: TestServer) -> None:
    database = server.empty_database()
    migrate(database.url("owner"))
    migrate(database.url("owner"), "base", "downgrade")
    with database.superuser() as connection:
        left = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relname not like 'alembic%'"
        ).fetchall()
        functions = connection.execute("select proname from pg_proc where pronamespace = 'public'::regnamespace")
        assert functions.fetchall() == []
    assert left == []
    migrate(database.url("owner"))


def test_models_and_migrations_agree(server: TestServer) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "alembic", "check"],
        cwd=REPOSITORY,
        env=os.environ | {"STUDIO_DATABASE_OWNER_URL": server.postgres.url("owner")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_check_constraint_of_the_models_is_in_the_database(server: TestServer) -> None:
    """Alembic compares tables and columns only, and leaves a column's own checks out of what it generates."""
    declared = {
        f"ck_{table.name}_{str(constraint.name).removeprefix(f'ck_{table.name}_')}"
        for table in Base.metadata.tables.values()
        for constraint in (*table.constraints, *(own for column in table.columns for own in column.constraints))
        if isinstance(constraint, CheckConstraint)
    }
    with server.database().superuser() as connection:
        rows = connection.execute("select conname from pg_constraint where contype = 'c' and conname like 'ck_%'")
        present = {name for (name,) in rows.fetchall()}
    assert declared <= present, sorted(declared - present)


def test_a_keys_requests_per_second_become_a_limit_and_come_back(server: TestServer) -> None:
    database = server.empty_database()
    migrate(database.url("owner"), "0003")
    with database.superuser() as connection:
        connection.execute("insert into tenants (slug, name) values ('acme', 'Acme')")
        connection.execute(
            "insert into api_keys (tenant_id, name, prefix, secret_hash, scopes, requests_per_second)"
            " select id, 'slow', 'xpu_1', 'one'::bytea, '{inference}'::text[], 5 from tenants union all"
            " select id, 'free', 'xpu_2', 'two', '{inference}', null from tenants"
        )
    migrate(database.url("owner"), "0004")
    with database.superuser() as connection:
        limits = "select k.name, l.requests_per_second from limits l join api_keys k on k.id = l.api_key_id"
        assert connection.execute(limits).fetchall() == [("slow", 5)]
    migrate(database.url("owner"), "0003", "downgrade")
    with database.superuser() as connection:
        keys = connection.execute("select name, requests_per_second from api_keys order by name").fetchall()
    assert keys == [("free", None), ("slow", 5)]
