"""Ordering a correction: a draft that binds nobody until it is approved. Its figures come from `correction.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from billing import cancelled, correction
from billing.correction import CorrectionType, Figures, Left, LineLeft
from studio import ids
from studio.db.corrections import Correction, CorrectionLine
from studio.db.invoices import Invoice, InvoiceLine
from studio.errors import Conflict, NotFound
from studio.money import Currency, RoundingMode


class InvoiceNotFinal(Conflict):
    """A draft is not corrected, it is drafted anew."""

    default_code = "invoice_not_final"


class InvoiceCancelled(Conflict):
    """A cancelled invoice bills nothing, so nothing is added to it."""

    default_code = "invoice_cancelled"


@dataclass(frozen=True, slots=True)
class Explained:
    """Where the amount of a line comes from: in words, as printed, and in price rows."""

    amount: Decimal
    explanation: str
    prices: Mapping[str, Any]


def order(
    session: Session,
    *,
    invoice_id: UUID,
    type: CorrectionType,
    wanted: Mapping[int, Decimal],
    reason: str,
    by: str,
    now: datetime,
    explained: Mapping[int, Explained] = MappingProxyType({}),
    rerate_no: int | None = None,
) -> UUID:
    """Draft a correction of a final invoice; its id. `wanted`: net amounts by line number, none for a cancellation.

    `explained` and `rerate_no` are for what a re-rating came to (`rerate_order.py`).
    """
    invoice = session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound(f"There is no invoice {ids.to_wire(ids.INVOICE, invoice_id)}.")
    if invoice.state != "final":
        raise InvoiceNotFinal("A draft is not corrected: order it again when its usage is right.")
    require_not_cancelled(session, invoice, type)
    figures = correction.compose(left_of(session, invoice), type, wanted)
    correction_id = ids.uuid7()
    session.execute(
        insert(Correction).values(
            id=correction_id, invoice_id=invoice.id, tenant_id=invoice.tenant_id,
            legal_entity_id=invoice.legal_entity_id, type=type, state="draft", currency=invoice.currency,
            tax_category=invoice.tax_category, tax_rate=invoice.tax_rate, net=figures.net, tax=figures.tax,
            gross=figures.gross, reason=reason, ordered_by=by, ordered_at=now, rerate_no=rerate_no,
        )
    )  # fmt: skip
    by_hand = Explained(Decimal(0), "", {})
    lines = [(line, explained.get(line.line_no, by_hand)) for line in figures.lines]
    session.execute(
        insert(CorrectionLine),
        [
            {"correction_id": correction_id, **asdict(line), "explanation": why.explanation, "prices": dict(why.prices)}
            for line, why in lines
        ],
    )
    return correction_id


def require_not_cancelled(session: Session, invoice: Invoice, type: CorrectionType) -> None:
    """InvoiceCancelled for an addition to an invoice of which nothing is left."""
    if not type.takes_back and cancelled.was_cancelled(session, invoice.id):
        raise InvoiceCancelled(f"The invoice {invoice.number} is cancelled: correct the one that bills its usage now.")


def left_of(session: Session, invoice: Invoice) -> Left:
    """What is left of a final invoice after all its final corrections."""
    columns = (InvoiceLine.line_no, InvoiceLine.exact, InvoiceLine.amount)
    lines = select(*columns).where(InvoiceLine.invoice_id == invoice.id).order_by(InvoiceLine.line_no)
    original = Left(
        currency=Currency(invoice.currency),
        tax_rate=invoice.tax_rate,
        tax=invoice.tax,
        lines=tuple(LineLeft(*row) for row in session.execute(lines)),
        rounding=RoundingMode(invoice.rounding_mode),
    )
    final = select(Correction).where(Correction.invoice_id == invoice.id, Correction.state == "final")
    earlier = [(CorrectionType(row.type), figures_of(session, row)) for row in session.scalars(final).all()]
    return correction.left_after(original, earlier)


def figures_of(session: Session, row: Correction) -> Figures:
    """The figures of a correction as they are stored."""
    columns = (CorrectionLine.line_no, CorrectionLine.exact, CorrectionLine.amount)
    query = select(*columns).where(CorrectionLine.correction_id == row.id).order_by(CorrectionLine.line_no)
    lines = tuple(correction.CorrectionLine(*line) for line in session.execute(query))
    return Figures(lines, row.net, row.tax, row.gross)


def lines_of(session: Session, correction_id: UUID) -> list[CorrectionLine]:
    """The lines of a correction as they are stored, with what explains them."""
    query = select(CorrectionLine).where(CorrectionLine.correction_id == correction_id).order_by(CorrectionLine.line_no)
    return list(session.scalars(query))
