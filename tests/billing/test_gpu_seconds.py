"""GPU seconds: no work outside a replica's life, and no more of it than its slots had room for."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from billing import gpu_seconds, rated_lines, reconcile, usage, windows
from billing.comparison import Comparison
from studio import ids
from tests.billing.books import Books

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))


def compared(books: Books) -> dict[UUID, Comparison]:
    """The one comparison of each tenant."""
    with books.as_role("worker") as session:
        found = gpu_seconds.of_day(session, DAY, windows.closes_at(DAY))
    return {tenant: only for tenant, (only,) in found.items()}


def forge(books: Books, statement: str, **values: object) -> None:
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(statement, values)


def test_work_within_a_life_and_its_slots_is_in_order(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=1000, minutes=10)
    (one,) = compared(books).values()
    assert (one.agrees, one.observed) == (True, 600)


def test_an_event_outside_its_replicas_life_is_its_tenants_trouble_alone(books: Books) -> None:
    honest, forger, gateway = books.tenant("honest"), books.tenant("forger"), books.gateway()
    gateway.uses(honest, NOON, prompt=10)
    event = gateway.uses(forger, NOON + timedelta(hours=1), prompt=10)
    forge(books, "update replicas set state = 'stopped', stopped_at = %(at)s", at=NOON + timedelta(minutes=30))
    found = compared(books)
    assert (found[honest].agrees, found[forger].agrees) == (True, False)
    assert found[forger].details["events"] == [str(event)]


def test_an_event_of_a_replica_that_never_was_is_named(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10)
    forge(books, "update usage_events set replica_id = %(id)s", id=ids.uuid7())
    assert compared(books)[tenant].details["why"] == "there is no such replica"


def test_more_work_than_a_replica_was_up_for_stops_everybody_who_used_it(books: Books) -> None:
    """Its life was forged to begin late: within the margin of each event, but too short for all of them."""
    one, other, gateway = books.tenant("one"), books.tenant("other"), books.gateway()
    for _ in range(40):
        gateway.uses(one, NOON, prompt=1, completion=1, minutes=30)
    gateway.uses(other, NOON, prompt=1, completion=1, minutes=30)
    assert all(found.agrees for found in compared(books).values())
    forge(
        books, "update replicas set created_at = %(from)s, stopped_at = %(to)s, state = 'stopped', max_num_seqs = 2",
        **{"from": NOON, "to": NOON + timedelta(minutes=30)},
    )  # fmt: skip
    found = compared(books)
    assert [found[tenant].agrees for tenant in (one, other)] == [False, False]
    assert (found[one].expected, found[one].observed) == (3600, 41 * 1800)


def test_a_seal_with_a_red_one_is_not_reconciled(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10)
    gateway.reports(windows.closes_at(DAY))
    books.engine_is_idle(windows.closes_at(DAY))
    key = books.seal(tenant, DAY).key
    forge(books, "update usage_events set replica_id = %(id)s", id=ids.uuid7())
    with books.as_role("worker") as session:
        usage.count(session, key)
        rated_lines.rate_seal(session, key)
    with books.as_role("worker") as session:
        red = gpu_seconds.of_day(session, DAY, windows.closes_at(DAY))[tenant]
        reconcile.reconcile_seal(session, key, windows.closes_at(DAY), *red)
    assert books.state(key) == "rated"
    with books.as_role("auditor") as session:
        (shown,) = reconcile.seal_subjects(session, DAY, reconcile.GPU_SECONDS)
    assert not shown.agrees
