"""Money in, in Dagster: statements become payments, what waits long is red, what is overdue is reminded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from billing import dunning, payment_inbox, payment_reference, receivables
from billing.dunning import Level, Reached
from billing.receivables import Standing
from studio import clock, ids
from studio.objects import Bucket, ObjectStore
from tests.billing import statements
from tests.billing.books import Books
from tests.billing.statements import Line
from tests.orchestration.location import Location

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.fixture
def inbox(objects: ObjectStore) -> Iterator[ObjectStore]:
    """The object store outlives the databases of these tests."""
    objects.ensure_buckets()
    yield objects
    for one in objects.under(Bucket.BANK_STATEMENTS, ""):
        objects.delete(Bucket.BANK_STATEMENTS, one.key)


def invoice_of(books: Books, tenant: UUID, age: timedelta) -> Standing:
    """Final for so long; 119.00 EUR."""
    issued = clock.now() - age
    invoice_id = books.final_invoice(books.gateway(), tenant, NOON, issued, prompt=5_000_000_000)
    with books.as_role("auditor") as session:
        found = receivables.standing(session, invoice_id)
    assert found is not None
    return found


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_statements_in_the_inbox_become_payments_and_what_waits_long_is_red(
    books: Books, location: Location, inbox: ObjectStore
) -> None:
    invoice = invoice_of(books, books.tenant(), timedelta(days=1))
    assert location.asks("statements_waiting") == []
    reference = payment_reference.of_invoice(invoice.number)
    old = (clock.now() - timedelta(days=9)).date().isoformat()
    body = statements.camt(Line("119.00", reference, day=old, reference="1"), Line("7.00", "thanks", day=old))
    inbox.put(Bucket.BANK_STATEMENTS, "inbox/december.xml", body)
    inbox.put(Bucket.BANK_STATEMENTS, "inbox/broken.xml", b"<Document/>")
    (request,) = location.asks("statements_waiting")
    result = location.carry_out(request, "take_payments")
    assert verdicts(result) == {
        "every_statement_is_read": False, "no_money_waits_long": False, "ledger_equals_payments": True,
    }  # fmt: skip
    assert location.asks("statements_waiting") == []
    assert payment_inbox.refused(inbox) == ["refused/broken.xml"]
    why = inbox.get(Bucket.BANK_STATEMENTS, "refused/broken.xml.why.txt")
    assert why is not None
    assert b"not camt.053" in why
    with books.as_role("auditor") as session:
        paid = receivables.standing(session, invoice.invoice_id)
    assert paid is not None
    assert paid.open == 0

    inbox.put(Bucket.BANK_STATEMENTS, "inbox/december.xml", body)  # dropped again
    location.run("take_payments")
    with books.database.superuser() as connection:
        count = connection.execute("select count(*) from payments").fetchone()
        connection.execute("set session_replication_role = replica")
        connection.execute("update payment_matches set amount = amount - 1")
    assert count == (2,)
    assert verdicts(location.run("take_payments"))["ledger_equals_payments"] is False


@pytest.mark.usefixtures("inbox")
def test_what_is_overdue_is_reminded_once_a_level(books: Books, location: Location) -> None:
    invoice = invoice_of(books, books.tenant(), timedelta(days=14 + 20))
    for _ in range(2):
        assert location.run("remind").success
    with books.as_role("auditor") as session:
        (notice,) = dunning.notices(session, 10)
        (age,) = receivables.ageing(receivables.standings(session, only_unsettled=True), clock.now().date())
    assert (notice.number, notice.level, notice.mailed_at) == (invoice.number, 1, None)
    assert (notice.amount, age.days_1_30, age.total) == (Decimal("119.00"), Decimal("119.00"), Decimal("119.00"))


def test_levels_follow_each_other_a_day_apart_and_end_with_the_debt() -> None:
    levels = [Level(1, 5, "reminder"), Level(2, 19, "first"), Level(3, 33, "last")]
    due_on = datetime(2026, 12, 15, tzinfo=UTC).date()
    zero = Decimal("0.00")
    invoice = Standing(
        ids.uuid7(), ids.uuid7(), "acme", "de", "XDE-2026-000001", "EUR", due_on, due_on, due_on, Decimal("9.00"), zero,
        zero, zero, zero, Decimal("9.00"), "Acme", (),
    )  # fmt: skip
    reached: dict[UUID, Reached] = {}
    said: dict[int, int] = {}
    for days in range(60):
        today = due_on + timedelta(days=days)
        for reminder in dunning.due([invoice], levels, reached, {"de": today}):
            reached[reminder.invoice_id] = Reached(reminder.level, today)
            said[reminder.level] = days
    assert said == {1: 5, 2: 19, 3: 33}
    late = {"de": due_on + timedelta(days=90)}
    assert [one.level for one in dunning.due([invoice], levels, {}, late)] == [1]  # not all at once
    assert dunning.due([invoice], levels, {invoice.invoice_id: Reached(1, late["de"])}, late) == []


@pytest.mark.parametrize(
    ("days", "bucket"),
    [(-3, "not_due"), (0, "not_due"), (1, "days_1_30"), (30, "days_1_30"), (31, "days_31_60"), (61, "days_61_90"),
     (90, "days_61_90"), (91, "days_over_90"), (4_000, "days_over_90")],
)  # fmt: skip
def test_ages_fall_into_one_bucket(days: int, bucket: str) -> None:
    assert receivables.bucket(days) == bucket
