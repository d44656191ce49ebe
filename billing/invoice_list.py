"""Lists of invoices for the pages and reports that show them. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from studio.db.invoices import Invoice, InvoiceLine


@dataclass(frozen=True, slots=True)
class InvoiceTotals:
    """An invoice by its figures."""

    invoice_id: UUID
    tenant_id: UUID
    month: date
    state: str
    number: str | None
    currency: str
    lines: int
    net: Decimal
    tax: Decimal
    gross: Decimal


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """An invoice line in words."""

    line_no: int
    variant_id: str | None
    tokens: int
    amount: Decimal
    explanation: str


def drafts_of(session: Session, month: date) -> list[InvoiceTotals]:
    """The drafts of a month."""
    return _totals(session, (Invoice.month == month) & (Invoice.state == "draft"))


def totals_of(session: Session, invoice_id: UUID) -> InvoiceTotals:
    """The figures of one invoice that exists."""
    (totals,) = _totals(session, Invoice.id == invoice_id)
    return totals


def lines_of(session: Session, invoice_id: UUID) -> list[PrintedLine]:
    """The lines of an invoice, in order."""
    columns = (
        InvoiceLine.line_no, InvoiceLine.variant_id, InvoiceLine.tokens, InvoiceLine.amount, InvoiceLine.explanation,
    )  # fmt: skip
    query = select(*columns).where(InvoiceLine.invoice_id == invoice_id).order_by(InvoiceLine.line_no)
    return [PrintedLine(*row) for row in session.execute(query)]


def _totals(session: Session, which: ColumnElement[bool]) -> list[InvoiceTotals]:
    lines = select(func.count()).where(InvoiceLine.invoice_id == Invoice.id).scalar_subquery()
    columns = (
        Invoice.id.label("invoice_id"), Invoice.tenant_id, Invoice.month, Invoice.state, Invoice.number,
        Invoice.currency, lines.label("lines"), Invoice.net, Invoice.tax, Invoice.gross,
    )  # fmt: skip
    query = select(*columns).where(which).order_by(Invoice.month, Invoice.id)
    return [InvoiceTotals(**row) for row in session.execute(query).mappings()]
