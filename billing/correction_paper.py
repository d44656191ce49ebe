"""What stands on a correction, as text: every figure and sentence, formatted once, from frozen rows.

The words: a correction is never called "Gutschrift", which in German tax law is an invoice that the customer writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.correction import CorrectionType
from billing.paper import GERMAN_UNIT_NAMES, day_text, money_text, percent_text
from billing.rating import ADJUSTMENT_NAMES, UNIT_NAMES
from studio import ids
from studio.db.catalog import Model, ModelVariant
from studio.db.corrections import Correction, CorrectionLine
from studio.db.invoices import Invoice, InvoiceLine
from studio.errors import NotFound

_TITLES = MappingProxyType(
    {
        CorrectionType.ADDITIONAL_INVOICE: ("Additional invoice", "Nachberechnung"),
        CorrectionType.CREDIT_NOTE: ("Invoice correction", "Rechnungskorrektur"),
        CorrectionType.CANCELLATION: ("Cancellation", "Stornorechnung"),
    }
)
_TAKEN_BACK = (("Taken back net", "Minderung netto"), ("Taken back", "Minderung gesamt"))
_ADDED = (("Added net", "Nachberechnet netto"), ("Total", "Gesamtbetrag"))


@dataclass(frozen=True, slots=True)
class CorrectionPaperLine:
    """One corrected line, ready to print."""

    line_no: str
    product: str
    unit: str
    unit_german: str
    invoiced: str
    amount: str


@dataclass(frozen=True, slots=True)
class CorrectionPaper:
    """One correction, ready to print. Amounts are positive."""

    number: str
    title: str
    title_german: str
    issued_on: str
    invoice_number: str
    invoice_issued_on: str
    period_from: str
    period_until: str
    reason: str
    currency: str
    seller: dict[str, Any]
    buyer: dict[str, Any]
    amount_label: str
    amount_label_german: str
    lines: tuple[CorrectionPaperLine, ...]
    net: str
    tax: str
    tax_percent: str
    total_label: str
    total_label_german: str
    gross: str


def correction_paper(session: Session, correction_id: UUID) -> CorrectionPaper:
    """The text of a correction; a draft's has the word DRAFT where the number will stand."""
    row = session.get(Correction, correction_id)
    if row is None:
        raise NotFound(f"There is no correction {ids.to_wire(ids.CORRECTION, correction_id)}.")
    invoice = session.get_one(Invoice, row.invoice_id)
    type = CorrectionType(row.type)
    title, title_german = _TITLES[type]
    (amount_label, amount_label_german), (total_label, total_label_german) = _TAKEN_BACK if type.takes_back else _ADDED
    return CorrectionPaper(
        number=row.number or "DRAFT / ENTWURF",
        title=title,
        title_german=title_german,
        issued_on=day_text(row.issued_on),
        invoice_number=invoice.number or "",
        invoice_issued_on=day_text(invoice.issued_on),
        period_from=day_text(invoice.period_from),
        period_until=day_text(invoice.period_until),
        reason=row.reason,
        currency=row.currency,
        seller=invoice.seller,
        buyer=invoice.buyer,
        amount_label=amount_label,
        amount_label_german=amount_label_german,
        lines=_lines(session, row),
        net=money_text(row.net),
        tax=money_text(row.tax),
        tax_percent=percent_text(row.tax_rate),
        total_label=total_label,
        total_label_german=total_label_german,
        gross=money_text(row.gross),
    )


def _lines(session: Session, row: Correction) -> tuple[CorrectionPaperLine, ...]:
    query = (
        select(CorrectionLine.amount, InvoiceLine, Model.name, ModelVariant.tier)
        .join(InvoiceLine, InvoiceLine.line_no == CorrectionLine.line_no)
        .outerjoin(ModelVariant, ModelVariant.id == InvoiceLine.variant_id)
        .outerjoin(Model, Model.id == ModelVariant.model_id)
        .where(CorrectionLine.correction_id == row.id, InvoiceLine.invoice_id == row.invoice_id)
        .order_by(CorrectionLine.line_no)
    )
    return tuple(
        CorrectionPaperLine(
            line_no=str(line.line_no),
            product=f"{name}, {tier}" if name else "",
            unit=(UNIT_NAMES | ADJUSTMENT_NAMES)[line.unit],
            unit_german=GERMAN_UNIT_NAMES[line.unit],
            invoiced=money_text(line.amount),
            amount=money_text(amount),
        )
        for amount, line, name, tier in session.execute(query)
    )
