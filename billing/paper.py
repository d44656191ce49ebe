"""What stands on an invoice, as text: every figure and sentence of the document, formatted once, from frozen rows.

`document.py` sets it in type. Nothing is computed here but the shape of a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.rating import ADJUSTMENT_NAMES, UNIT_NAMES, price_text
from studio import ids
from studio.db.catalog import Model, ModelVariant
from studio.db.invoices import Invoice, InvoiceLine
from studio.errors import NotFound

GERMAN_UNIT_NAMES = {
    "prompt": "Eingabe-Token",
    "cached_prompt": "Eingabe-Token aus dem Cache",
    "completion": "Ausgabe-Token",
    "embedding": "Embedding-Token",
    "batch_prompt": "Eingabe-Token (Batch)",
    "batch_cached_prompt": "Eingabe-Token aus dem Cache (Batch)",
    "batch_completion": "Ausgabe-Token (Batch)",
    "batch_embedding": "Embedding-Token (Batch)",
    "reused": "Token wiederverwendeter Antworten",
    "minimum_commitment": "Mindestabnahme",
    "quote_limit": "über der Grenze eines Angebots",
}


@dataclass(frozen=True, slots=True)
class PaperLine:
    """One line, ready to print."""

    line_no: str
    product: str
    unit: str
    unit_german: str
    tokens: str
    price: str
    amount: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Paper:
    """One invoice, ready to print."""

    number: str
    issued_on: str
    period_from: str
    period_until: str
    time_zone: str
    currency: str
    seller: dict[str, Any]
    buyer: dict[str, Any]
    lines: tuple[PaperLine, ...]
    net: str
    tax: str
    tax_percent: str
    gross: str
    prepaid: str | None  # None where no credit was used
    due: str


def paper(session: Session, invoice_id: UUID) -> Paper:
    """The text of an invoice; a draft's has the word DRAFT where the number will stand."""
    invoice = session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound(f"There is no invoice {ids.to_wire(ids.INVOICE, invoice_id)}.")
    query = (
        select(InvoiceLine, Model.name, ModelVariant.tier)
        .outerjoin(ModelVariant, ModelVariant.id == InvoiceLine.variant_id)  # a minimum commitment is of no model
        .outerjoin(Model, Model.id == ModelVariant.model_id)
        .where(InvoiceLine.invoice_id == invoice_id)
        .order_by(InvoiceLine.line_no)
    )
    return Paper(
        number=invoice.number or "DRAFT / ENTWURF",
        issued_on=day_text(invoice.issued_on),
        period_from=day_text(invoice.period_from),
        period_until=day_text(invoice.period_until),
        time_zone=invoice.time_zone,
        currency=invoice.currency,
        seller=invoice.seller,
        buyer=invoice.buyer,
        lines=tuple(_line(line, f"{name}, {tier}" if name else "") for line, name, tier in session.execute(query)),
        net=money_text(invoice.net),
        tax=money_text(invoice.tax),
        tax_percent=percent_text(invoice.tax_rate),
        gross=money_text(invoice.gross),
        prepaid=money_text(invoice.prepaid) if invoice.prepaid else None,
        due=money_text(invoice.gross - invoice.prepaid),
    )


def money_text(amount: Decimal) -> str:
    """1234.5 -> "1,234.50"."""
    return f"{amount:,.2f}"


def percent_text(rate: Decimal) -> str:
    """0.1900 -> "19"."""
    return f"{(rate * 100).normalize():f}"


def _line(line: InvoiceLine, product: str) -> PaperLine:
    return PaperLine(
        line_no=str(line.line_no),
        product=product,
        unit=(UNIT_NAMES | ADJUSTMENT_NAMES)[line.unit],
        unit_german=GERMAN_UNIT_NAMES[line.unit],
        tokens="" if line.unit in ADJUSTMENT_NAMES else f"{line.tokens:,}",
        price="" if line.unit in ADJUSTMENT_NAMES else price_text(line.per_million),
        amount=money_text(line.amount),
        explanation=line.explanation,
    )


def day_text(day: date | None) -> str:
    """2026-12-01; nothing for a day that is not known yet."""
    return "" if day is None else day.isoformat()
