"""Corrections of final invoices: ordered, approved, numbered without a gap, booked, and never more than there is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
import typst
from sqlalchemy import select

from billing import approval, balances, correction_order, invoice_booking
from billing.approval import InvoiceIsFinal, TotalDiffers
from billing.correction import CorrectionType, OverCorrection
from billing.correction_finalize import CorrectionOutdated, finalize_correction
from billing.correction_order import InvoiceNotFinal
from billing.correction_paper import correction_paper
from billing.documents import frozen_rows, pdf
from studio.db.corrections import Correction
from tests.billing.books import Books, Gateway

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)
CREDIT, CANCEL, ADD = CorrectionType.CREDIT_NOTE, CorrectionType.CANCELLATION, CorrectionType.ADDITIONAL_INVOICE


@pytest.fixture
def gateway(books: Books) -> Gateway:
    return books.gateway()


@pytest.fixture
def final(books: Books, gateway: Gateway) -> UUID:
    """An invoice of 6.00 net, 7.14 gross; its two lines are exactly 4.00000014 and 1.9999996."""
    return books.final_invoice(gateway, books.tenant(), NOON, LATER, prompt=200_000_007, completion=49_999_990)


def order(books: Books, invoice_id: UUID, type: CorrectionType = CREDIT, **lines: str) -> UUID:
    """`_1="1.00"`: that much of line 1."""
    wanted = {int(name[1:]): Decimal(amount) for name, amount in lines.items()}
    with books.as_role("operator") as session:
        return correction_order.order(
            session, invoice_id=invoice_id, type=type, wanted=wanted, reason="price was wrong", by="anna", now=LATER
        )


def approve(books: Books, correction_id: UUID, gross: Decimal | None = None) -> UUID:
    expected = books_correction(books, correction_id).gross if gross is None else gross
    with books.as_role("operator") as session:
        return approval.approve_correction(
            session, correction_id=correction_id, expected_gross=expected, by="bert", now=LATER
        )


def carry_out(books: Books, approval_id: UUID) -> str:
    with books.as_role("worker") as session:
        return finalize_correction(session, approval_id, LATER)


def books_correction(books: Books, correction_id: UUID) -> Correction:
    with books.as_role("auditor") as session:
        return session.get_one(Correction, correction_id)


def make_final(books: Books, invoice_id: UUID, type: CorrectionType = CREDIT, **lines: str) -> str:
    return carry_out(books, approve(books, order(books, invoice_id, type, **lines)))


def booked(books: Books) -> dict[str, Decimal]:
    """Balances by kind of account."""
    with books.as_role("auditor") as session:
        assert invoice_booking.unequal(session) == []
        assert balances.imbalances(session) == []
        return {balance.kind: balance.amount for balance in balances.balances(session)}


def test_a_credit_note_is_booked_against_the_invoice(books: Books, final: UUID) -> None:
    assert make_final(books, final, _1="1.00") == "XDE-C-2026-000001"
    assert booked(books) == {
        "receivable": Decimal("5.95"), "revenue": Decimal("-4.999999740000"),
        "vat_payable": Decimal("-0.95"), "rounding": Decimal("-0.000000260000"),
    }  # fmt: skip
    with books.as_role("auditor") as session:
        (newest, _) = balances.transactions(session, tenant_id=None, subject=None, limit=9)
    assert (newest.kind, newest.booked_by, newest.description) == ("correction", "bert", "price was wrong")


def test_a_cancellation_leaves_every_account_at_zero(books: Books, final: UUID) -> None:
    make_final(books, final, _2="0.50")
    assert make_final(books, final, CANCEL) == "XDE-C-2026-000002"
    assert set(booked(books).values()) == {Decimal(0)}


def test_an_additional_invoice_is_numbered_with_the_invoices(books: Books, final: UUID) -> None:
    assert make_final(books, final, ADD, _1="2.00") == "XDE-2026-000002"
    assert booked(books)["receivable"] == Decimal("9.52")


def test_a_draft_binds_nobody(books: Books, final: UUID) -> None:
    before = booked(books)
    order(books, final, _1="1.00")
    assert booked(books) == before


def test_a_draft_of_an_invoice_is_not_corrected(books: Books, gateway: Gateway) -> None:
    tenant = books.tenant()
    gateway.uses(tenant, NOON, prompt=200_000_000)
    books.close_day(gateway, tenant, NOON.date())
    invoice_id = books.draft(tenant, NOON.date().replace(day=1), LATER)
    assert invoice_id is not None
    with pytest.raises(InvoiceNotFinal):
        order(books, invoice_id, _1="1.00")


def test_the_same_approval_twice_gives_the_same_number_and_books_once(books: Books, final: UUID) -> None:
    approved = approve(books, order(books, final, _1="1.00"))
    second = approve(books, books_correction_of(books, final))
    assert carry_out(books, approved) == carry_out(books, approved) == "XDE-C-2026-000001"
    with pytest.raises(InvoiceIsFinal):
        carry_out(books, second)
    assert booked(books)["receivable"] == Decimal("5.95")
    with books.as_role("worker") as session:
        assert [waiting.id for waiting in approval.waiting_corrections(session)] == [approved]  # its document
        assert approved not in [waiting.id for waiting in approval.waiting(session)]


def books_correction_of(books: Books, invoice_id: UUID) -> UUID:
    with books.as_role("auditor") as session:
        return session.scalars(select(Correction.id).where(Correction.invoice_id == invoice_id)).one()


def test_another_total_than_the_one_seen_is_refused(books: Books, final: UUID) -> None:
    with pytest.raises(TotalDiffers):
        approve(books, order(books, final, _1="1.00"), Decimal("1.18"))


def test_racing_corrections_never_take_back_more_than_there_is(books: Books, final: UUID) -> None:
    approvals = [approve(books, order(books, final, _1="3.00")) for _ in range(4)]

    def try_it(approval_id: UUID) -> str | None:
        try:
            return carry_out(books, approval_id)
        except (OverCorrection, CorrectionOutdated):
            return None

    with ThreadPoolExecutor(4) as threads:
        numbers = [number for number in threads.map(try_it, approvals) if number]
    assert numbers == ["XDE-C-2026-000001"]
    assert booked(books)["receivable"] == Decimal("3.57")
    with pytest.raises(OverCorrection, match=r"Only 1\.00 is left of line 1"):
        order(books, final, _1="3.00")


def test_a_correction_whose_figures_are_not_right_any_more_is_ordered_again(books: Books, final: UUID) -> None:
    cancellation = approve(books, order(books, final, CANCEL))
    make_final(books, final, _1="1.00")
    with pytest.raises(CorrectionOutdated, match="order the correction again"):
        carry_out(books, cancellation)
    make_final(books, final, CANCEL)
    assert set(booked(books).values()) == {Decimal(0)}


def test_a_final_correction_is_immutable_even_for_the_owner(books: Books, final: UUID) -> None:
    make_final(books, final, _1="1.00")
    for attack in (
        "update corrections set gross = 1, net = 1, tax = 0",
        "delete from corrections",
        "update correction_lines set amount = 0",
        "delete from correction_lines",
        "insert into correction_lines select id, 99, 1, 1 from corrections",
        "truncate corrections cascade",
    ):
        with books.database.superuser() as connection, pytest.raises(psycopg.Error, match=r"is final|append-only"):
            connection.execute(attack.encode())


@pytest.mark.parametrize(
    ("type", "title"),
    [(CREDIT, "Rechnungskorrektur"), (CANCEL, "Stornorechnung"), (ADD, "Nachberechnung")],
)
def test_the_document_names_the_invoice_and_is_always_the_same(
    books: Books, final: UUID, type: CorrectionType, title: str
) -> None:
    lines = {} if type is CANCEL else {"_1": "1.00"}
    correction_id = order(books, final, type, **lines)
    carry_out(books, approve(books, correction_id))
    with books.as_role("worker") as session:
        snapshot = frozen_rows.of_correction(session, correction_id)
    paper = correction_paper(snapshot)
    assert pdf.render(snapshot, None) == pdf.render(snapshot, None)
    assert (paper.title_german, paper.invoice_number, paper.reason) == (title, "XDE-2026-000001", "price was wrong")
    figures = [_figures(asdict(paper), label) for label in ("net", "tax", "gross")]
    assert figures == ([["-6.00"], ["-1.14"], ["-7.14"]] if type is CANCEL else [["1.00"], ["0.19"], ["1.19"]])


def test_no_document_uses_the_word_that_means_something_else_by_law() -> None:
    for template in Path(pdf.CORRECTION_TEMPLATE).parent.glob("*.typ"):
        assert "gutschrift" not in template.read_text().lower()


def _figures(content: dict[str, object], label: str) -> list[str]:
    inputs = {"paper": json.dumps(content)}
    found = typst.query(pdf.CORRECTION_TEMPLATE, f"<{label}>", sys_inputs=inputs)
    return [element["child"]["text"] for element in json.loads(found)]
