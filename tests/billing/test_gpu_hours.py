"""GPU hours: cards for one tenant alone, counted by its civil days, and billed like all usage."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from billing import (
    card_reservations,
    complete_months,
    gpu_hours,
    jumps,
    margin,
    price_book,
    quarantine,
    rate_archive,
    rated_lines,
    reconcile,
    usage,
)
from billing import windows as sealing
from billing.complete_months import TenantMonth
from billing.documents import frozen_rows
from local.objects import EmbeddedObjectStore
from studio import budgets, clock, gpu_usage, ids
from studio.catalog.declaration import ClusterDoor, DeclaredCluster, TenantShare
from studio.catalog.reading import read_catalog
from studio.cluster import tenants as namespaces
from studio.cluster.tenant_objects import tenant_objects
from studio.db.invoices import InvoiceLine
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.settings import REPOSITORY
from tests.billing.books import CHAT, Books
from tests.billing.test_archive import archive_day
from tests.local.servers import client

DAY = date(2026, 11, 10)
CLOCKS_CHANGE = date(2026, 10, 25)  # 25 hours in Berlin
BEFORE = datetime(2026, 1, 2, tzinfo=UTC)
NEXT_NOON = datetime(2026, 11, 11, 11, tzinfo=UTC)
REASON: dict[str, Any] = {"by": "key:finance", "reason": "contract 9"}


@pytest.fixture
def tenant(books: Books) -> UUID:
    """One that pays 2.40 for a card and hour."""
    tenant = books.tenant()
    sells(books, tenant)
    return tenant


def sells(books: Books, tenant: UUID, valid_until: datetime | None = None) -> None:
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id="gpu", unit="gpu_hour", per_million=Decimal("2.40"), tiers=(),
            valid_from=BEFORE, valid_until=valid_until, retroactive=True, now=BEFORE, **REASON,
        )  # fmt: skip


def reserves(books: Books, tenant: UUID, cards: int, since: datetime, until: datetime | None = None) -> UUID:
    with books.as_role("operator") as session:
        return card_reservations.reserve(
            session, tenant_id=tenant, cards=cards, valid_from=since, valid_until=until, now=BEFORE, **REASON
        ).id


def count(books: Books, day: date, now: datetime) -> list[gpu_hours.CountedDay]:
    with books.as_role("worker") as session:
        return gpu_hours.count(session, day, now)


def test_reserved_cards_are_sealed_rated_twice_and_invoiced_with_their_day(
    books: Books, tenant: UUID, objects: EmbeddedObjectStore
) -> None:
    objects.prepare()
    store, gateway = client(objects, objects.secrets.s3_secret_key), books.gateway()
    start, end = clock.day_window(DAY, clock.BERLIN)
    reserves(books, tenant, 2, start - timedelta(days=1), end)
    reserves(books, tenant, 4, start + timedelta(hours=12), start + timedelta(hours=18))  # and more for an evening
    gateway.uses(tenant, start + timedelta(hours=12), prompt=1_000_000)
    (day,) = count(books, DAY, end + timedelta(minutes=1))
    assert day.micro_hours == (2 * 24 + 4 * 6) * 1_000_000
    assert count(books, DAY, end + timedelta(minutes=2)) == []

    gateway.reports(sealing.closes_at(DAY))
    books.engine_is_idle(sealing.closes_at(DAY) + timedelta(hours=1))
    key = books.seal(tenant, DAY).key
    assert key.seal_no == 1  # it was there before the day was sealed
    archive_day(books, store, DAY)
    with books.as_role("worker") as session:
        assert usage.count_together(session, DAY, [key]) == {key}  # in many at once ...
        rated_lines.rate_seals(session, DAY, [key])
        again = rate_archive.rate_twice(session, store, [key])  # ... and by other code, from the archive
        reconcile.reconcile_seal(session, key, sealing.closes_at(DAY), reconcile.rated_twice(key, again[key]))
        assert gpu_hours.uneven(session, DAY) == []
        (cost,) = [row for row in margin.compute(session, DAY) if row.variant_id == gpu_usage.PRODUCT]
    assert (cost.card_seconds, cost.revenue) == (Decimal(72 * 3600), Decimal("172.80"))
    assert cost.cost is None  # what the cards drew is not measured apart
    assert books.state(key) == "reconciled"
    invoice_id = books.draft(tenant, date(2026, 11, 1), NEXT_NOON)
    assert invoice_id is not None
    books.finalize(invoice_id, NEXT_NOON)  # with its revenue in the ledger
    with books.as_role("auditor") as session:
        lines = session.scalars(select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id)).all()
        line = next(line for line in lines if line.unit == "gpu_hour")
        assert (line.amount, line.tokens, line.variant_id) == (Decimal("172.80"), 72_000_000, "gpu")
        assert line.explanation == "72,000,000 millionths of a GPU hour x 2.40 EUR / 1,000,000"
        names = [line.name for line in frozen_rows.of_invoice(session, invoice_id).lines if line.unit == "gpu_hour"]
        assert names == ["GPU, millionths of a GPU hour"]
        booked = "select sum(amount) from ledger_entries e join ledger_accounts a on a.id = e.account_id"
        revenue = f"{booked} where a.kind = 'revenue' and a.detail = 'gpu_hours'"
        assert session.execute(text(revenue)).scalar_one() == Decimal("-172.80")


@pytest.mark.parametrize(
    ("zone", "day"), [("Europe/Berlin", CLOCKS_CHANGE), ("America/New_York", DAY), ("Asia/Kathmandu", DAY)]
)
def test_an_hour_is_cards_times_time_of_the_tenants_own_day(books: Books, zone: str, day: date) -> None:
    tenant, drawn = books.tenant("kunde", zone), random.Random(zone)
    sells(books, tenant)
    start, end = clock.day_window(day, clock.zone(zone))
    microseconds = 0
    for _ in range(30):
        cards, since = drawn.randrange(1, 65), start + timedelta(seconds=drawn.randrange(-90_000, 90_000))
        until = drawn.choice([None, since + timedelta(seconds=drawn.randrange(1, 200_000), microseconds=7)])
        reserves(books, tenant, cards, since, until)
        span = min(until or end, end) - max(since, start)
        microseconds += cards * max(span // timedelta(microseconds=1), 0)
    assert count(books, day, end - timedelta(seconds=1)) == []  # it is not over there
    (counted,) = count(books, day, end)
    assert (counted.card_microseconds, counted.micro_hours) == (microseconds, microseconds // 3600)
    with books.as_role("auditor") as session:
        event = session.execute(text("select id, started_at from usage_events")).one()
        (unit,) = usage.units_of_event(session, tenant, event.id)
    assert (unit.unit, unit.billing_day, unit.tokens) == ("gpu_hour", day, counted.micro_hours)
    assert event.started_at == end - timedelta(microseconds=1)


def test_a_month_waits_for_its_hours_and_they_end_with_the_tenant(books: Books, tenant: UUID) -> None:
    start = clock.day_window(DAY, clock.BERLIN)[0]
    reserves(books, tenant, 1, start)
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update tenants set created_at = '2026-01-01', closed_at = %s", (start + timedelta(hours=6),)
        )
    november, now = TenantMonth(tenant, date(2026, 11, 1)), datetime(2026, 12, 1, 11, tzinfo=UTC)
    with books.as_role("worker") as session:
        assert complete_months.complete(session, [november], now) == set()
        assert [one.day for one in gpu_hours.due(session, now)] == [DAY]
    (counted,) = count(books, DAY, now)
    assert counted.micro_hours == 6_000_000
    with books.as_role("worker") as session:
        assert gpu_hours.due(session, now) == []


def test_hours_without_a_price_are_held_and_not_given_away(books: Books) -> None:
    tenant = books.tenant()
    start, end = clock.day_window(DAY, clock.BERLIN)
    sells(books, tenant, valid_until=start + timedelta(hours=1))
    reserves(books, tenant, 1, start)
    count(books, DAY, end)
    assert books.process(books.seal(tenant, DAY).key) == "held"
    with books.as_role("worker") as session:
        (gap,) = jumps.price_gaps(session, start)  # it was warned of
    assert (gap.tenant_id, gap.variant_id, gap.unit) == (tenant, "gpu", "gpu_hour")
    with books.as_role("auditor") as session:
        (entry,) = quarantine.entries(session, tenant_id=tenant)
    assert entry.reason == usage.UNPRICED


def test_they_are_spent_of_budgets_and_a_changed_count_is_seen(books: Books, tenant: UUID) -> None:
    start, end = clock.day_window(DAY, clock.BERLIN)
    with books.as_role("operator") as session:
        budgets.put_budget(session, tenant, None, "monthly", Decimal(10), "test")
    with books.database.superuser() as connection:
        connection.execute("update budgets set created_at = %s", (start,))
    reserves(books, tenant, 1, start, start + timedelta(hours=5))
    count(books, DAY, end)
    with books.as_role("auditor") as session:
        assert session.execute(text("select spent from budget_accounts")).scalars().all() == [Decimal("12.00")]
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update card_reservations set cards = 2")
    with books.as_role("worker") as session:
        (found,) = gpu_hours.uneven(session, DAY)
    assert (found.counted, found.counted_again, found.billed) == (5_000_000, 10_000_000, 5_000_000)


def test_what_cannot_be_reserved_says_why_and_what_is_reserved_is_the_quota_of_its_namespace(books: Books) -> None:
    tenant, now = books.tenant(), clock.now()
    at: dict[str, Any] = {"tenant_id": tenant, "cards": 2, "valid_until": None, "now": now, **REASON}
    with books.as_role("operator") as session:
        with pytest.raises(InvalidRequest, match=r"no price for this tenant .*gpu_hour"):
            card_reservations.reserve(session, valid_from=now, **at)
        with pytest.raises(InvalidRequest, match="GPU hours are of no model"):
            price_book.set_price(
                session, variant_id=CHAT, unit="gpu_hour", per_million=Decimal(1), tiers=(), valid_from=now,
                valid_until=None, retroactive=False, tenant_id=tenant, now=now, **REASON,
            )  # fmt: skip
    sells(books, tenant)
    with books.as_role("operator") as session:
        for bad, why in (
            ({"cards": 0, "valid_from": now}, "between 1 and 4,096"),
            ({"valid_from": now - timedelta(seconds=1)}, "from now on"),
            ({"valid_from": now, "valid_until": now}, "end before it begins"),
        ):
            with pytest.raises(InvalidRequest, match=why):
                card_reservations.reserve(session, **(at | bad))
        row = card_reservations.reserve(session, valid_from=now, **at)
        with pytest.raises(InvalidRequest, match="in the future"):
            card_reservations.end(session, tenant, row.id, now, now)
        with pytest.raises(NotFound):
            card_reservations.end(session, tenant, ids.uuid7(), now, now)
    with books.as_role("worker") as session:
        (one,) = [one for one in namespaces.open_tenants(session) if one.id == tenant]
    door = ClusterDoor(namespace="studio", port=443)
    cluster = DeclaredCluster(gateway=door, s3=door, tenant=TenantShare(cards=1))
    (quota,) = [made for made in tenant_objects(one, cluster) if made["kind"] == "ResourceQuota"]
    assert quota["spec"]["hard"][f"requests.{cluster.gpu_resource}"] == "3"  # its share, and the two
    with books.as_role("operator") as session:
        card_reservations.end(session, tenant, row.id, now + timedelta(hours=1), now)
        with pytest.raises(Conflict, match="ends already"):
            card_reservations.end(session, tenant, row.id, now + timedelta(hours=2), now)


def test_the_delivered_lists_name_a_price_in_either_currency() -> None:
    prices = [one for one in read_catalog(REPOSITORY / "catalog", "local").prices if one.unit == "gpu_hour"]
    assert {(one.currency.value, one.variant_id) for one in prices} == {("EUR", "gpu"), ("CNY", "gpu")}
