"""Connections as our processes have them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import InternalError, OperationalError

from studio.db.sessions import engine_for, unit_of_work
from tests.server import TestServer

LOCK = text("select pg_advisory_xact_lock(1)")


def sleep_with_the_lock(sleeper: Engine, other: Engine) -> None:
    with unit_of_work(sleeper) as asleep:
        asleep.execute(LOCK)
        with unit_of_work(other) as session:
            session.execute(LOCK)  # waits until the server has ended the other one
        asleep.execute(text("select 1"))


def test_who_falls_asleep_in_a_transaction_loses_its_locks_and_may_begin_again(server: TestServer) -> None:
    url = server.database().url("worker")
    sleeper, other = engine_for(url, idle_in_transaction_seconds=1), engine_for(url)
    with pytest.raises((InternalError, OperationalError), match="idle-in-transaction timeout"):
        sleep_with_the_lock(sleeper, other)
    with unit_of_work(sleeper) as awake:
        assert awake.scalar(text("select 1")) == 1
