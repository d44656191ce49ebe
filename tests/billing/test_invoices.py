"""Invoices: drafted from reconciled usage, made final once by a person's approval, then never changed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import typst
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from billing import approval, credit_lots, draft, finalize, invoice_requests, reconcile, statement
from billing.approval import InvoiceIsFinal, TotalDiffers
from billing.documents import frozen_rows, pdf
from billing.paper import money_text, paper
from studio.db.invoices import InvoiceLine, InvoiceRequest
from tests.billing.books import Books, Gateway

DAY, MONTH = date(2026, 11, 10), date(2026, 11, 1)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)


@pytest.fixture
def gateway(books: Books) -> Gateway:
    return books.gateway()


@pytest.fixture
def drafted(books: Books, gateway: Gateway) -> UUID:
    """A draft over one reconciled day: 200 M prompt and 50 M completion tokens."""
    tenant = books.tenant()
    gateway.uses(tenant, NOON, prompt=200_000_000, completion=50_000_000)
    books.close_day(gateway, tenant, DAY)
    invoice_id = books.draft(tenant, MONTH, LATER)
    assert invoice_id is not None
    return invoice_id


def approve(books: Books, invoice_id: UUID, gross: Decimal | None = None) -> UUID:
    expected = books.invoice(invoice_id).gross if gross is None else gross
    with books.as_role("operator") as session:
        return approval.approve(session, invoice_id=invoice_id, expected_gross=expected, by="key:xpu_test", now=LATER)


def make_final(books: Books, approval_id: UUID, at: datetime = LATER) -> str:
    with books.as_role("worker") as session:
        return finalize.finalize(session, approval_id, at)


def test_lines_add_up_and_each_is_explained(books: Books, drafted: UUID) -> None:
    invoice = books.invoice(drafted)
    with books.as_role("worker") as session:
        lines = session.scalars(select(InvoiceLine).order_by(InvoiceLine.line_no)).all()
        comparison = reconcile.reconcile_invoice(session, drafted, LATER)
    assert [line.explanation for line in lines] == [
        "200,000,000 prompt tokens x 0.02 EUR / 1,000,000",
        "50,000,000 completion tokens x 0.04 EUR / 1,000,000",
    ]
    assert (invoice.net, invoice.tax, invoice.gross) == (Decimal("6.00"), Decimal("1.14"), Decimal("7.14"))
    assert comparison.agrees


def test_nothing_to_invoice_is_an_answer(books: Books) -> None:
    assert books.draft(books.tenant(), MONTH, LATER) is None
    with books.as_role("auditor") as session:
        assert session.scalars(select(InvoiceRequest.answer)).one() == "nothing to invoice"


def test_usage_that_is_not_reconciled_is_not_invoiced(books: Books, gateway: Gateway) -> None:
    tenant = books.tenant()
    gateway.uses(tenant, NOON, prompt=200_000_000)
    gateway.reports(LATER)
    assert books.process(books.seal(tenant, DAY).key) == "rated"  # the engine was never seen idle
    assert books.draft(tenant, MONTH, LATER) is None


def test_late_usage_goes_to_the_next_invoice_of_the_month(books: Books, gateway: Gateway, drafted: UUID) -> None:
    first = books.invoice(drafted)
    make_final(books, approve(books, drafted))
    gateway.uses(first.tenant_id, NOON + timedelta(hours=1), prompt=50_000_000)
    books.close_day(gateway, first.tenant_id, DAY)
    second_id = books.draft(first.tenant_id, MONTH, LATER)
    assert second_id is not None
    assert (books.invoice(second_id).net, books.invoice(drafted).net) == (Decimal("1.00"), Decimal("6.00"))


def test_finalising_twice_gives_the_same_number(books: Books, drafted: UUID) -> None:
    approval_id = approve(books, drafted)
    assert make_final(books, approval_id) == "XDE-2026-000001"
    assert make_final(books, approval_id, LATER + timedelta(days=1)) == "XDE-2026-000001"
    with books.as_role("operator") as session, pytest.raises(InvoiceIsFinal):
        approval.approve(session, invoice_id=drafted, expected_gross=Decimal("7.14"), by="again", now=LATER)


def test_racing_finalisers_number_without_a_gap(books: Books, gateway: Gateway) -> None:
    approvals = []
    for number in range(4):
        tenant = books.tenant(f"kunde-{number}")
        gateway.uses(tenant, NOON, prompt=200_000_000)
        books.close_day(gateway, tenant, DAY)
        invoice_id = books.draft(tenant, MONTH, LATER)
        assert invoice_id is not None
        approvals.append(approve(books, invoice_id))
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda approval_id: make_final(books, approval_id), approvals * 2))
    assert numbers[:4] == numbers[4:]
    assert sorted(numbers[:4]) == [f"XDE-2026-{number:06d}" for number in (1, 2, 3, 4)]


def test_two_approvals_of_one_draft_make_one_invoice(books: Books, drafted: UUID) -> None:
    first, second = approve(books, drafted), approve(books, drafted)
    assert make_final(books, first) == "XDE-2026-000001"
    with pytest.raises(InvoiceIsFinal):
        make_final(books, second)
    with books.as_role("worker") as session:
        assert [waiting.id for waiting in approval.waiting(session)] == [first]  # its document is still to be rendered


def test_another_total_than_the_approved_one_is_refused(books: Books, gateway: Gateway, drafted: UUID) -> None:
    with pytest.raises(TotalDiffers):
        approve(books, drafted, Decimal("7.13"))
    approval_id = approve(books, drafted)
    tenant = books.invoice(drafted).tenant_id
    gateway.uses(tenant, NOON, prompt=50_000_000)
    books.close_day(gateway, tenant, DAY)
    with books.as_role("worker") as session:
        request_id = session.scalars(select(InvoiceRequest.id)).one()
        assert draft.draft(session, request_id, LATER) == drafted  # redone, now with the later usage
    assert books.invoice(drafted).gross == Decimal("8.33")
    with pytest.raises(TotalDiffers):
        make_final(books, approval_id)


@pytest.mark.parametrize(
    "attack",
    [
        "update invoices set gross = 1, net = 1, tax = 0",
        "delete from invoices",
        "update invoice_lines set amount = 0",
        "delete from invoice_lines",
        "delete from invoiced_lines",
        "truncate invoices cascade",
    ],
)
def test_a_final_invoice_is_immutable_even_for_the_owner_of_the_tables(
    books: Books, drafted: UUID, attack: str
) -> None:
    make_final(books, approve(books, drafted))
    with books.database.superuser() as connection, pytest.raises(Exception, match=r"is final|append-only"):
        connection.execute(attack)


def test_late_usage_is_taxed_by_the_rate_of_its_own_month(books: Books, gateway: Gateway, drafted: UUID) -> None:
    """One invoice is of one month, and the last day with usage on it decides (docs/finance-guide.md)."""
    tenant = books.invoice(drafted).tenant_id
    make_final(books, approve(books, drafted))
    with books.database.superuser() as connection:
        connection.execute("update tax_rates set valid_until = '2026-12-01' where country = 'DE' and category = 'S'")
        connection.execute(
            "insert into tax_rates (country, category, rate, valid_from, source)"
            " values ('DE', 'S', 0.16, '2026-12-01', 'test')"
        )
    rates = {}
    for at in (NOON + timedelta(days=1), LATER):
        gateway.uses(tenant, at, prompt=200_000_000)
        books.close_day(gateway, tenant, at.date())
        invoice_id = books.draft(tenant, at.date().replace(day=1), LATER + timedelta(days=40))
        assert invoice_id is not None
        rates[at.month] = books.invoice(invoice_id).tax
    assert rates == {11: Decimal("0.76"), 12: Decimal("0.64")}


def test_a_rated_line_is_invoiced_once(books: Books, drafted: UUID) -> None:
    with books.as_role("worker") as session, pytest.raises(IntegrityError):
        session.connection().exec_driver_sql(
            "insert into invoiced_lines select rated_line_id, invoice_id, line_no from invoiced_lines"
        )


def test_the_document_shows_every_figure_of_the_row(books: Books, drafted: UUID) -> None:
    make_final(books, approve(books, drafted))
    with books.as_role("worker") as session:
        content = asdict(paper(frozen_rows.of_invoice(session, drafted)))
    figures = [_figures(content, label) for label in ("amount", "net", "tax", "gross", "tokens")]
    assert figures == [["4.00", "2.00"], ["6.00"], ["1.14"], ["7.14"], ["200,000,000", "50,000,000"]]
    assert money_text(Decimal("1234567.5")) == "1,234,567.50"


def test_the_document_says_what_credit_has_paid(books: Books, drafted: UUID) -> None:
    with books.as_role("worker") as session:
        draft_paper = asdict(paper(frozen_rows.of_invoice(session, drafted)))
    assert _figures(draft_paper, "due") == []  # no word of credit where none was used
    tenant = books.invoice(drafted).tenant_id
    with books.as_role("operator") as session:
        credit_lots.grant(
            session, tenant_id=tenant, kind="prepaid", amount=Decimal("2.00"), expires_on=None,
            by="key:xpu_test", reason="top-up", now=LATER,
        )  # fmt: skip
    make_final(books, approve(books, drafted))
    with books.as_role("worker") as session:
        content = asdict(paper(frozen_rows.of_invoice(session, drafted)))
    assert [_figures(content, label) for label in ("gross", "prepaid", "due")] == [["7.14"], ["2.00"], ["5.14"]]


def test_the_statement_shows_what_is_invoiced_and_what_is_open(books: Books, gateway: Gateway, drafted: UUID) -> None:
    make_final(books, approve(books, drafted))
    tenant = books.invoice(drafted).tenant_id
    gateway.uses(tenant, NOON + timedelta(days=1), prompt=50_000_000)
    gateway.reports(LATER)
    books.seal(tenant, DAY + timedelta(days=1))
    with books.as_role("worker") as session:
        (now,) = statement.refresh(session, MONTH, LATER)
    assert (now.amount, now.invoiced, now.open_windows) == (Decimal(6), Decimal(6), 1)


class TestMonthClose:
    def test_a_closed_month_is_asked_for_once(self, books: Books, gateway: Gateway) -> None:
        tenant = books.tenant()
        gateway.uses(tenant, NOON, prompt=200_000_000)
        books.close_day(gateway, tenant, DAY)
        gateway.reports(LATER)
        assert self._close(books, datetime(2026, 11, 30, 5, tzinfo=UTC)) == []
        assert self._close(books, LATER) == [(tenant, MONTH)]
        assert self._close(books, LATER + timedelta(days=1)) == []

    def test_an_open_window_postpones_the_month(self, books: Books, gateway: Gateway) -> None:
        tenant = books.tenant()
        gateway.uses(tenant, NOON, prompt=200_000_000)
        books.close_day(gateway, tenant, DAY)
        gateway.uses(tenant, NOON, prompt=1_000_000)
        gateway.reports(LATER)
        key = books.seal(tenant, DAY).key
        assert self._close(books, LATER) == []
        books.engine_is_idle(LATER)
        assert books.process(key) == "reconciled"
        assert self._close(books, LATER + timedelta(days=1)) == [(tenant, MONTH)]

    def test_a_day_that_could_not_be_sealed_postpones_the_month_of_its_tenant(
        self, books: Books, gateway: Gateway
    ) -> None:
        """No row says that it is not sealed: the gateway fell silent before it had shown everything."""
        tenant, other = books.tenant(), books.tenant("other")
        for one in (tenant, other):
            gateway.uses(one, NOON, prompt=200_000_000)
            books.close_day(gateway, one, DAY)
        gateway.uses(tenant, NOON + timedelta(days=1), prompt=1_000_000)
        gateway.reports(NOON + timedelta(days=1))
        assert self._close(books, LATER) == []  # what the silent one holds may be anybody's
        gateway.reports(LATER)
        assert self._close(books, LATER) == [(other, MONTH)]
        books.close_day(gateway, tenant, DAY + timedelta(days=1))
        gateway.reports(LATER)
        assert self._close(books, LATER) == [(tenant, MONTH)]

    def test_usage_of_the_next_month_postpones_nothing(self, books: Books, gateway: Gateway) -> None:
        tenant = books.tenant()
        gateway.uses(tenant, NOON, prompt=200_000_000)
        books.close_day(gateway, tenant, DAY)
        gateway.uses(tenant, LATER - timedelta(hours=1), prompt=1)
        gateway.reports(LATER)
        assert self._close(books, LATER) == [(tenant, MONTH)]

    @pytest.mark.parametrize(
        ("zone", "over_at"),
        [
            ("Europe/Berlin", datetime(2026, 11, 30, 23, 15, tzinfo=UTC)),
            # 23:00 of 30 November there is the 1st in Berlin, whose window closes a day later.
            ("America/Los_Angeles", datetime(2026, 12, 1, 23, 15, tzinfo=UTC)),
            # Over at 16:00 UTC, but the seller's November is not, nor the last window of it.
            ("Asia/Shanghai", datetime(2026, 11, 30, 23, 15, tzinfo=UTC)),
        ],
    )
    def test_a_month_is_over_where_the_buyer_is_and_where_the_seller_is(
        self, books: Books, gateway: Gateway, zone: str, over_at: datetime
    ) -> None:
        tenant = books.tenant(time_zone=zone)
        gateway.uses(tenant, NOON, prompt=200_000_000)
        books.close_day(gateway, tenant, DAY)
        gateway.reports(over_at)
        assert self._close(books, over_at - timedelta(seconds=1)) == []
        assert self._close(books, over_at) == [(tenant, MONTH)]

    def _close(self, books: Books, now: datetime) -> list[tuple[UUID, date]]:
        with books.as_role("worker") as session:
            requests = invoice_requests.request_closed_months(session, now)
        return [(request.tenant_id, request.month) for request in requests]


def _figures(content: dict[str, object], label: str) -> list[str]:
    found = typst.query(pdf.INVOICE_TEMPLATE, f"<{label}>", sys_inputs={"paper": json.dumps(content)})
    return [element["child"]["text"] for element in json.loads(found)]
