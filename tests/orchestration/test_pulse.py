"""Dagster's pulse."""

from __future__ import annotations

from studio import clock
from studio.db.observation import DagsterTick
from tests.billing.books import Books
from tests.orchestration.location import Location


def test_a_tick_says_that_sensors_run_and_the_next_replaces_it(books: Books, location: Location) -> None:
    for _ in range(2):
        before = clock.now()
        assert location.asks("pulse") == []
        with books.as_role("auditor") as session:
            (tick,) = session.query(DagsterTick)
        assert before <= tick.ticked_at <= clock.now()
