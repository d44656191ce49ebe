"""What stands on a correction, as text: every figure and sentence, formatted once, from its snapshot.

The words: a correction is never called "Gutschrift", which in German tax law is an invoice that the customer writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from billing.correction import CorrectionType
from billing.documents.snapshot import Snapshot
from billing.paper import (
    CHINESE_UNIT_NAMES,
    GERMAN_UNIT_NAMES,
    EuroTaxText,
    Payment,
    day_text,
    euro_tax_text,
    languages_of,
    money_text,
    payment_of,
    percent_text,
)
from billing.rating import LINE_NAMES

_TITLES = MappingProxyType(
    {
        CorrectionType.ADDITIONAL_INVOICE: ("Additional invoice", "Nachberechnung"),
        CorrectionType.CREDIT_NOTE: ("Invoice correction", "Rechnungskorrektur"),
        CorrectionType.CANCELLATION: ("Cancellation", "Stornorechnung"),
    }
)
_LABELS = MappingProxyType(
    {
        CorrectionType.ADDITIONAL_INVOICE: (("Added net", "Nachberechnet netto"), ("Total", "Gesamtbetrag")),
        CorrectionType.CREDIT_NOTE: (("Taken back net", "Minderung netto"), ("Taken back", "Minderung gesamt")),
        CorrectionType.CANCELLATION: (("Net", "Netto"), ("Total", "Gesamtbetrag")),  # its amounts are negative
    }
)


@dataclass(frozen=True, slots=True)
class CorrectionPaperLine:
    """One corrected line, ready to print."""

    line_no: str
    product: str
    unit: str
    unit_german: str
    unit_chinese: str
    invoiced: str
    amount: str
    explanation: str  # of what a re-rating came to


@dataclass(frozen=True, slots=True)
class CorrectionPaper:
    """One correction, ready to print. Amounts are positive, but for a cancellation's."""

    languages: tuple[str, ...]
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
    seller: Mapping[str, Any]
    buyer: Mapping[str, Any]
    amount_label: str
    amount_label_german: str
    lines: tuple[CorrectionPaperLine, ...]
    net: str
    tax: str
    tax_percent: str
    tax_reason: str | None
    euro_tax: EuroTaxText | None
    total_label: str
    total_label_german: str
    gross: str
    payment: Payment | None  # of an additional invoice


def correction_paper(snapshot: Snapshot) -> CorrectionPaper:
    """The text of a correction; a draft's has the word DRAFT where the number will stand."""
    original = snapshot.original
    assert original is not None
    type = CorrectionType(snapshot.type)
    title, title_german = _TITLES[type]
    (amount_label, amount_label_german), (total_label, total_label_german) = _LABELS[type]
    return CorrectionPaper(
        languages=languages_of(snapshot),
        number=snapshot.number,
        title=title,
        title_german=title_german,
        issued_on=day_text(snapshot.issued_on),
        invoice_number=original.number,
        invoice_issued_on=day_text(original.issued_on),
        period_from=day_text(snapshot.period_from),
        period_until=day_text(snapshot.period_until),
        reason=original.reason,
        currency=snapshot.currency,
        seller=snapshot.seller,
        buyer=snapshot.buyer,
        amount_label=amount_label,
        amount_label_german=amount_label_german,
        lines=tuple(
            CorrectionPaperLine(
                line_no=str(line.line_no),
                product=line.product,
                unit=LINE_NAMES[line.unit],
                unit_german=GERMAN_UNIT_NAMES[line.unit],
                unit_chinese=CHINESE_UNIT_NAMES[line.unit],
                invoiced=money_text(line.invoiced) if line.invoiced is not None else "",
                amount=money_text(line.amount),
                explanation=line.explanation.partition(": ")[2],
            )
            for line in snapshot.lines
        ),
        net=money_text(snapshot.net),
        tax=money_text(snapshot.tax),
        tax_percent=percent_text(snapshot.tax_rate),
        tax_reason=snapshot.exemption_reason,
        euro_tax=euro_tax_text(snapshot),
        total_label=total_label,
        total_label_german=total_label_german,
        gross=money_text(snapshot.gross),
        payment=payment_of(snapshot),
    )
