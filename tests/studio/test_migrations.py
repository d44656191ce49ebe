"""The migrations lead up and down again, and say what the models say."""

from __future__ import annotations

import os
import subprocess
import sys

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
