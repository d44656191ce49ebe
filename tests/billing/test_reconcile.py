"""Reconciliation: no money on counts that disagree."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import update

from billing import reconcile, windows
from studio.db.fleet import Replica
from studio.db.usage import UsageSource
from tests.billing.books import Books

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))


def test_an_engine_that_counted_more_than_we_did_stops_the_window(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    gateway.reports(windows.closes_at(DAY))
    books.engine_tokens["completion_tokens"] += 1
    books.engine_is_idle(NOON + timedelta(minutes=1))
    key = books.seal(tenant, DAY).key
    assert books.process(key) == "rated"
    with books.as_role("auditor") as session:
        (comparison,) = reconcile.seal_subjects(session, DAY, reconcile.ENGINES)
    assert (comparison.expected, comparison.observed, comparison.agrees) == (15, 14, False)


def test_what_a_killed_gateway_had_in_flight_is_billed_to_nobody_and_stops_no_window(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    gateway.reports(windows.closes_at(DAY))
    books.engine_tokens["prompt_tokens"] += 7
    books.engine_tokens["completion_tokens"] += 2
    books.engine_is_idle(NOON + timedelta(minutes=1))
    with books.as_role("shipper") as session:
        session.execute(update(UsageSource).values(crashed_at=NOON, closed_at=NOON))
    key = books.seal(tenant, DAY).key
    assert books.process(key) == "reconciled"
    with books.as_role("auditor") as session:
        (comparison,) = reconcile.seal_subjects(session, DAY, reconcile.ENGINES)
    assert comparison.details["unbilled_tokens"] == 9
    assert len(comparison.details["because_of"]) == 1


def test_no_crash_explains_more_usage_than_the_engine_counted(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    gateway.reports(windows.closes_at(DAY))
    books.engine_tokens["completion_tokens"] -= 1
    books.engine_is_idle(NOON + timedelta(minutes=1))
    with books.as_role("shipper") as session:
        session.execute(update(UsageSource).values(crashed_at=NOON, closed_at=NOON))
    assert books.process(books.seal(tenant, DAY).key) == "rated"


def test_a_living_engine_must_have_been_idle_since(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    books.engine_is_idle(NOON - timedelta(minutes=1))
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    gateway.reports(windows.closes_at(DAY))
    key = books.seal(tenant, DAY).key
    assert books.process(key) == "rated"
    books.engine_is_idle(NOON + timedelta(milliseconds=500))  # before our `ended_at`: seen between token and last byte
    with books.as_role("worker") as session:
        assert all(comparison.agrees for comparison in reconcile.reconcile_seal(session, key, NOON))
    assert books.state(key) == "reconciled"


def test_a_dead_engine_is_compared_up_to_its_last_idle_instant(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    books.engine_is_idle(NOON + timedelta(minutes=1))
    gateway.uses(tenant, NOON + timedelta(minutes=2), prompt=10, completion=3)
    gateway.reports(windows.closes_at(DAY))
    with books.as_role("node_agent") as session:
        session.execute(update(Replica).values(state="failed"))
    assert books.process(books.seal(tenant, DAY).key) == "reconciled"


def test_an_attached_engine_is_skipped_and_says_so(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    gateway.reports(windows.closes_at(DAY))
    with books.as_role("node_agent") as session:
        session.execute(update(Replica).values(kind="attached"))
    assert books.process(books.seal(tenant, DAY).key) == "reconciled"
    with books.as_role("auditor") as session:
        (comparison,) = reconcile.seal_subjects(session, DAY, reconcile.ENGINES)
    assert comparison.details == {"skipped": "an attached engine is not ours to count"}
