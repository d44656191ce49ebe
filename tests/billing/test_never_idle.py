"""An engine that is never idle: its counters lie between what is finished and that plus what is in flight."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update
from sqlalchemy.event import listen

from billing import engine_totals, rated_lines, reconcile, usage, windows
from billing.comparison import Comparison
from billing.engine_totals import BUSY_AFTER, IN_FLIGHT
from billing.windows import SealKey
from studio.db.usage import UsageSource
from tests.billing.books import Books

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
MIDNIGHT = windows.closes_at(DAY)
LATER = MIDNIGHT + BUSY_AFTER


def rated(books: Books, *, counted_of_the_long_one: int) -> SealKey:
    """A finished request, one that runs over the reading at midnight, and one after it: the engine never rests."""
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    books.engine_tokens = {"prompt_tokens": 10 + 100, "completion_tokens": 4 + counted_of_the_long_one}
    books.engine_works(MIDNIGHT, requests=1)
    gateway.uses(books.tenant("long"), MIDNIGHT - timedelta(minutes=1), prompt=100, completion=50, minutes=5)
    gateway.uses(books.tenant("next"), MIDNIGHT + timedelta(minutes=3), prompt=1000, completion=1000, minutes=5)
    gateway.reports(MIDNIGHT)
    key = books.seal(tenant, DAY).key
    with books.as_role("worker") as session:
        usage.count(session, key)
        rated_lines.rate_seal(session, key)
    return key


def engines_at(books: Books, key: SealKey, now: datetime) -> Comparison:
    with books.as_role("worker") as session:
        return next(one for one in reconcile.reconcile_seal(session, key, now) if one.kind == reconcile.ENGINES)


@pytest.mark.parametrize("counted", [0, 17, 50])
def test_it_is_waited_for_and_then_its_reading_must_fit(books: Books, counted: int) -> None:
    key = rated(books, counted_of_the_long_one=counted)
    waiting = engines_at(books, key, LATER - timedelta(seconds=1))
    assert (waiting.agrees, "waiting" in waiting.details) == (False, True)
    fits = engines_at(books, key, LATER)
    assert (fits.agrees, fits.observed, fits.details["in_flight_completion_tokens"]) == (True, 14, 50)
    assert books.state(key) == "reconciled"


def test_a_reading_is_used_only_when_what_was_in_flight_can_have_arrived(books: Books) -> None:
    key = rated(books, counted_of_the_long_one=17)
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update engine_counters set observed_at = %s", [LATER - IN_FLIGHT + timedelta(seconds=1)])
    assert "waiting" in engines_at(books, key, LATER).details


def test_a_counter_below_what_is_finished_is_never_in_order(books: Books) -> None:
    key = rated(books, counted_of_the_long_one=-1)
    assert not engines_at(books, key, LATER).agrees
    assert books.state(key) == "rated"


def test_a_counter_above_everything_in_flight_needs_a_crash_that_explains_it(books: Books) -> None:
    key = rated(books, counted_of_the_long_one=51)
    assert not engines_at(books, key, LATER).agrees
    with books.as_role("shipper") as session:
        session.execute(update(UsageSource).values(crashed_at=NOON, closed_at=MIDNIGHT))
    explained = engines_at(books, key, LATER)
    assert (explained.agrees, explained.details["unbilled_tokens"]) == (True, 1)


def test_many_seals_cost_two_looks_and_each_keeps_its_own_instants(books: Books) -> None:
    """Three tenants whose last requests lie before different readings of one engine."""
    gateway, tenants = books.gateway(), [books.tenant(f"t{n}") for n in range(3)]
    for hours, tenant in enumerate(tenants):
        at = NOON + timedelta(hours=hours)
        gateway.uses(tenant, at, prompt=10 + hours, completion=4)
        gateway.uses(books.tenant(f"long{hours}"), at + timedelta(minutes=1), prompt=1, completion=1, minutes=10)
        books.engine_works(at + timedelta(minutes=5), requests=1)
    gateway.reports(MIDNIGHT)
    keys = [books.seal(tenant, DAY).key for tenant in tenants]
    with books.as_role("worker") as session:
        statements: list[str] = []
        listen(session.get_bind(), "before_cursor_execute", lambda *said: statements.append(said[2]))
        together = engine_totals.of_seals(session, DAY, keys, LATER)
        assert len(statements) == 2
        apart = {key: engine_totals.of_seals(session, DAY, [key], LATER)[key] for key in keys}
    assert together == apart
    assert [one.details["finished_completion_tokens"] for key in keys for one in together[key]] == [4, 9, 14]
