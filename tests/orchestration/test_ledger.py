"""The ledger in Dagster: its days are closed and copied, and its checks go red when somebody was at the tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from billing import chain, credit_lots
from studio import clock
from studio.objects import Bucket, ObjectStore
from tests.billing.books import Books
from tests.orchestration.location import Location

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)


@pytest.fixture
def no_copy(objects: ObjectStore) -> Iterator[None]:
    """The object store outlives the databases of these tests."""
    yield
    objects.delete(Bucket.INVOICES, chain.COPY)


def yesterday(books: Books) -> None:
    """As if all that is booked had been booked yesterday."""
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update ledger_transactions set recorded_at = recorded_at - interval '1 day', recorded_on = recorded_on - 1"
        )


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


@pytest.mark.usefixtures("no_copy")
def test_a_day_is_closed_once_and_a_forgery_turns_the_checks_red(
    books: Books, location: Location, objects: ObjectStore
) -> None:
    books.final_invoice(books.gateway(), books.tenant(), NOON, LATER, prompt=200_000_000)
    assert location.asks("ledger_open") == []  # today is not over
    yesterday(books)
    (request,) = location.asks("ledger_open")
    result = location.carry_out(request, "close_ledger")
    assert verdicts(result) == {
        "ledger_equals_invoices": True, "ledger_sums_to_zero": True, "ledger_days_are_as_closed": True,
    }  # fmt: skip
    assert location.asks("ledger_open") == []
    copied = objects.get(Bucket.INVOICES, chain.COPY)
    closed = (clock.now() - timedelta(days=1)).date()
    assert list(chain.from_json(copied)) == [closed]

    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update ledger_entries set amount = amount - 1 where amount > 0")
    result = location.run("close_ledger")
    assert not any(verdicts(result).values())
    (found,) = [
        check.metadata for check in result.get_asset_check_evaluations() if "first_broken_day" in check.metadata
    ]
    assert found["first_broken_day"].value == closed.isoformat()
    assert objects.get(Bucket.INVOICES, chain.COPY) == copied  # the proof is not overwritten


@pytest.mark.usefixtures("no_copy")
def test_what_waits_is_done_by_the_same_run(books: Books, location: Location) -> None:
    tenant, today = books.tenant(), clock.now()
    with books.as_role("operator") as session:
        credit_lots.grant(
            session, tenant_id=tenant, kind="prepaid", amount=Decimal("3.00"), by="ops", reason="test",
            expires_on=(today - timedelta(days=30)).date(), now=today - timedelta(days=31),
        )  # fmt: skip
    (request,) = location.asks("ledger_open")
    location.carry_out(request, "close_ledger")
    assert location.asks("ledger_open") == []
    with books.as_role("auditor") as session:
        (standing,) = credit_lots.lots_of(session, tenant)
    assert standing.lot.remaining == 0
