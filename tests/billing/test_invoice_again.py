"""Usage of a cancelled invoice is invoiced again: when a person asks, once, and each token counts once in all terms."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy import select

from billing import (
    approval,
    balances,
    cancelled,
    correction_order,
    draft,
    invoice_again,
    invoice_booking,
    invoice_requests,
    review,
    statement,
)
from billing.correction import CorrectionType
from billing.correction_finalize import finalize_correction
from billing.correction_order import InvoiceCancelled
from billing.documents import frozen_rows
from billing.invoice_again import InvoicedAgain, NotCancelled
from billing.tiers import Tier
from studio.db.corrections import Correction
from studio.db.invoices import Invoice, InvoiceLine
from studio.errors import StudioError
from tests.billing.books import Books, Gateway
from tests.billing.test_price_book import commit, lines, set_price

DAY, MONTH = date(2026, 11, 10), date(2026, 11, 1)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)
MILLION = 1_000_000


@pytest.fixture
def gateway(books: Books) -> Gateway:
    return books.gateway()


@pytest.fixture
def tenant(books: Books) -> UUID:
    return books.tenant()


def correct(books: Books, invoice_id: UUID, type: CorrectionType, wanted: dict[int, Decimal]) -> None:
    """Order a correction, review, approve and carry it out."""
    with books.as_role("operator") as session:
        order = correction_order.order(
            session, invoice_id=invoice_id, type=type, wanted=wanted, reason="wrong buyer", by="finance", now=LATER
        )
        gross = session.get_one(Correction, order).gross
        review.review_correction(session, correction_id=order, expected_gross=gross, by="bookkeeping", now=LATER)
        approved = approval.approve_correction(
            session, correction_id=order, expected_gross=gross, by="finance", now=LATER
        )
    with books.as_role("worker") as session:
        finalize_correction(session, approved, LATER)


def cancel(books: Books, invoice_id: UUID) -> None:
    correct(books, invoice_id, CorrectionType.CANCELLATION, {})


def ask_again(books: Books, invoice_id: UUID) -> UUID:
    with books.as_role("operator") as session:
        asked = invoice_again.request_again(session, invoice_id=invoice_id, by="finance", reason="buyer", now=LATER)
    return asked.id


def draft_of(books: Books, request_id: UUID) -> UUID:
    with books.as_role("worker") as session:
        drafted = draft.draft(session, request_id, LATER)
    assert drafted is not None
    return drafted


def billed_tokens(books: Books) -> int:
    """Of all invoices that bill something, drafts too, without adjustments."""
    query = (
        select(InvoiceLine.tokens)
        .join(Invoice, Invoice.id == InvoiceLine.invoice_id)
        .where(cancelled.still_bills(), InvoiceLine.price_id.is_not(None))
    )
    with books.as_role("auditor") as session:
        return sum(session.scalars(query))


def test_a_wrong_buyer_is_cancelled_and_invoiced_again_once(books: Books, gateway: Gateway, tenant: UUID) -> None:
    first = books.final_invoice(gateway, tenant, NOON, LATER, prompt=200 * MILLION)
    with books.as_role("operator") as session, pytest.raises(NotCancelled, match="--cancel"):
        invoice_again.request_again(session, invoice_id=first, by="finance", reason="buyer", now=LATER)
    with books.as_role("auditor") as session:
        printed = frozen_rows.of_invoice(session, first)
    cancel(books, first)
    assert books.draft(tenant, MONTH, LATER) is None  # by itself nothing is billed again
    request = ask_again(books, first)
    with books.as_role("operator") as session, pytest.raises(InvoicedAgain, match="asked for again already"):
        invoice_again.request_again(session, invoice_id=first, by="finance", reason="buyer", now=LATER)
    second = draft_of(books, request)
    assert draft_of(books, request) == second  # a draft that is done again holds the same
    books.finalize(second, LATER)
    assert (books.invoice(second).net, books.invoice(second).number) == (books.invoice(first).net, "XDE-2026-000002")
    assert books.draft(tenant, MONTH, LATER) is None
    with books.as_role("worker") as session:
        assert frozen_rows.of_invoice(session, first) == printed  # its documents say what they said
        (month,) = statement.refresh(session, MONTH, LATER)
        assert (month.tokens, month.invoiced, month.amount) == (200 * MILLION, Decimal(4), Decimal(4))
        assert invoice_booking.unequal(session) == []
        receivable = {row.kind: row.amount for row in balances.balances(session)}["receivable"]
        assert receivable == books.invoice(second).gross
    with books.as_role("operator") as session, pytest.raises(InvoiceCancelled, match="correct the one that bills"):
        correction_order.order(
            session, invoice_id=first, type=CorrectionType.ADDITIONAL_INVOICE, wanted={1: Decimal(1)}, reason="x",
            by="finance", now=LATER,
        )  # fmt: skip


def test_what_was_invoiced_again_is_cancelled_and_invoiced_again(books: Books, gateway: Gateway, tenant: UUID) -> None:
    invoice_id = books.final_invoice(gateway, tenant, NOON, LATER, prompt=200 * MILLION)
    for _ in range(2):
        cancel(books, invoice_id)
        invoice_id = draft_of(books, ask_again(books, invoice_id))
        books.finalize(invoice_id, LATER)
    assert billed_tokens(books) == 200 * MILLION


def test_the_database_frees_only_usage_of_a_cancelled_invoice(books: Books, gateway: Gateway, tenant: UUID) -> None:
    first = books.final_invoice(gateway, tenant, NOON, LATER, prompt=200 * MILLION)
    free = b"update invoiced_lines set freed_by = (select id from invoice_requests where again_of is not null)"
    with books.database.superuser() as connection:
        connection.execute(
            "insert into invoice_requests (tenant_id, month, requested_by, reason, again_of)"
            " select tenant_id, month, 'x', 'x', id from invoices"
        )
        with pytest.raises(psycopg.Error, match="is final"):
            connection.execute(free)
    cancel(books, first)
    with books.database.superuser() as connection:
        connection.execute(free)
        for attack in (b"update invoiced_lines set freed_by = null", b"delete from invoiced_lines"):
            with pytest.raises(psycopg.Error, match="is final"):
                connection.execute(attack)
    second = books.draft(tenant, MONTH, LATER)
    with books.database.superuser() as connection, pytest.raises(psycopg.Error, match="only usage of a cancelled"):
        connection.execute(
            "update invoiced_lines set freed_by = (select id from invoice_requests where again_of is not null)"
            " where invoice_id = %s", [second],
        )  # fmt: skip


def test_tiers_and_commitment_count_neither_what_was_cancelled_nor_what_was_dropped(
    books: Books, gateway: Gateway, tenant: UUID
) -> None:
    """200 M at 0.02, from 100 M on 0.01: 3.00, and a commitment of 10.00."""
    set_price(books, tenant, "0.02", tiers=[Tier(100 * MILLION, Decimal("0.01"))])
    commit(books, tenant, "10.00")
    gateway.uses(tenant, NOON, prompt=200 * MILLION)
    books.close_day(gateway, tenant, NOON.date())
    gateway.reports(LATER)  # nothing of the month is missing, so what it lacks to the commitment is known
    first = books.draft(tenant, MONTH, LATER)
    assert first is not None
    books.finalize(first, LATER)
    expected = [
        ("prompt", 100 * MILLION, Decimal("0.02"), Decimal("2.00")),
        ("prompt", 100 * MILLION, Decimal("0.01"), Decimal("1.00")),
        ("minimum_commitment", MILLION, Decimal("7.00"), Decimal("7.00")),
    ]
    assert lines(books, first) == expected
    cancel(books, first)
    second = draft_of(books, ask_again(books, first))
    assert lines(books, second) == expected
    with books.as_role("operator") as session:
        review.drop(session, second)
    with books.as_role("worker") as session:  # what a dropped draft freed is the calendar's again
        (asked,) = invoice_requests.request_closed_months(session, LATER)
    assert lines(books, draft_of(books, asked.id)) == expected


def test_cancelling_asking_again_and_late_usage_at_once_bill_each_token_once(
    books: Books, gateway: Gateway, tenant: UUID
) -> None:
    first = books.final_invoice(gateway, tenant, NOON, LATER, prompt=200 * MILLION)
    gateway.uses(tenant, NOON + timedelta(hours=1), prompt=100 * MILLION)
    books.close_day(gateway, tenant, DAY)  # late: a seal of its own

    def month_again() -> None:
        draft_of(books, ask_again(books, first))

    def calendar() -> None:
        with books.as_role("operator") as session:
            asked = invoice_requests.request_invoice(
                session, tenant_id=tenant, month=MONTH, by="calendar", reason="closed", now=LATER
            )
        with books.as_role("worker") as session:
            draft.draft(session, asked.id, LATER)

    def quietly(act: Callable[[], object]) -> str:
        try:
            act()
        except StudioError as refused:
            return refused.code
        return "done"

    with ThreadPoolExecutor(8) as threads:
        acts = [lambda: cancel(books, first), *[month_again, calendar] * 3]
        codes = list(threads.map(quietly, acts))
    assert codes[0] == "done"
    assert set(codes) <= {"done", "invoice_not_cancelled", "invoiced_again_already"}
    if "done" not in codes[1::2]:  # nobody who asked came after the cancellation
        month_again()
    assert quietly(month_again) == "invoiced_again_already"
    calendar()
    assert billed_tokens(books) == 300 * MILLION
