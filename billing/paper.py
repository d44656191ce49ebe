"""What stands on an invoice, as text: every figure and sentence of the document, formatted once, from its snapshot.

`documents/pdf.py` sets it in type. Nothing is computed here but the shape of a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from billing import epc_qr
from billing.documents.snapshot import Line, Snapshot
from billing.rating import LINE_NAMES, price_text

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
    "training": "Trainings-Token",
    "storage": "Kilobyte-Tage Speicher",
    "gpu_hour": "Millionstel GPU-Stunden",
    "minimum_commitment": "Mindestabnahme",
    "quote_limit": "über der Grenze eines Angebots",
}
CHINESE_UNIT_NAMES = {
    "prompt": "输入 Token",
    "cached_prompt": "缓存输入 Token",
    "completion": "输出 Token",
    "embedding": "向量 Token",
    "batch_prompt": "输入 Token（批量）",
    "batch_cached_prompt": "缓存输入 Token（批量）",
    "batch_completion": "输出 Token（批量）",
    "batch_embedding": "向量 Token（批量）",
    "reused": "复用回答 Token",
    "training": "训练 Token",
    "storage": "存储（千字节·天）",
    "gpu_hour": "GPU 小时（百万分之一）",
    "minimum_commitment": "最低消费",
    "quote_limit": "超出报价上限",
}


@dataclass(frozen=True, slots=True)
class PaperLine:
    """One line, ready to print."""

    line_no: str
    product: str
    unit: str
    unit_german: str
    unit_chinese: str
    tokens: str
    price: str
    amount: str
    explanation: str
    period: str | None  # where it is not that of the invoice


@dataclass(frozen=True, slots=True)
class Payment:
    """Where the money goes."""

    due_on: str
    reference: str
    bank: str
    account: str
    bic: str
    qr_code: str | None  # SVG; None where no code can carry it


@dataclass(frozen=True, slots=True)
class EuroTaxText:
    """The VAT as the tax office wants it."""

    amount: str
    rate: str


@dataclass(frozen=True, slots=True)
class Paper:
    """One invoice, ready to print."""

    languages: tuple[str, ...]
    number: str
    issued_on: str
    period_from: str
    period_until: str
    time_zone: str
    currency: str
    seller: Mapping[str, Any]
    buyer: Mapping[str, Any]
    lines: tuple[PaperLine, ...]
    net: str
    tax: str
    tax_percent: str
    tax_reason: str | None
    euro_tax: EuroTaxText | None
    gross: str
    prepaid: str | None  # None where no credit was used
    due: str
    payment: Payment | None  # None where nothing is due


def paper(snapshot: Snapshot) -> Paper:
    """The text of an invoice; a draft's has the word DRAFT where the number will stand."""
    return Paper(
        languages=languages_of(snapshot),
        number=snapshot.number,
        issued_on=day_text(snapshot.issued_on),
        period_from=day_text(snapshot.period_from),
        period_until=day_text(snapshot.period_until),
        time_zone=snapshot.time_zone,
        currency=snapshot.currency,
        seller=snapshot.seller,
        buyer=snapshot.buyer,
        lines=tuple(_line(snapshot, line) for line in snapshot.lines),
        net=money_text(snapshot.net),
        tax=money_text(snapshot.tax),
        tax_percent=percent_text(snapshot.tax_rate),
        tax_reason=snapshot.exemption_reason,
        euro_tax=euro_tax_text(snapshot),
        gross=money_text(snapshot.gross),
        prepaid=money_text(snapshot.prepaid) if snapshot.prepaid else None,
        due=money_text(snapshot.due),
        payment=payment_of(snapshot),
    )


def languages_of(snapshot: Snapshot) -> tuple[str, ...]:
    """English always; Chinese where either side is in China, else German where a German company issues."""
    countries = {snapshot.seller.get("country"), snapshot.buyer.get("country")}
    if "CN" in countries:
        return ("en", "zh")
    return ("en", "de") if snapshot.seller.get("country") == "DE" else ("en",)


def euro_tax_text(snapshot: Snapshot) -> EuroTaxText | None:
    """The VAT in EUR, and the rate that it rests on."""
    euro = snapshot.euro_tax
    if euro is None:
        return None
    rate = f"1 EUR = {euro.units_per_euro} {snapshot.currency}, {euro.source}, {euro.month:%Y-%m}"
    return EuroTaxText(money_text(euro.amount), rate)


def payment_of(snapshot: Snapshot) -> Payment | None:
    """How to pay; None where there is nothing to pay, or no number yet."""
    if snapshot.due_on is None or snapshot.payment_reference is None:
        return None
    seller = snapshot.seller
    iban, bic = seller.get("iban"), seller.get("bic")
    code = None
    if snapshot.currency == "EUR" and iban:
        code = epc_qr.payload(
            name=seller["name"], iban=iban, bic=bic, amount=snapshot.due, reference=snapshot.payment_reference
        )
    return Payment(
        due_on=day_text(snapshot.due_on),
        reference=snapshot.payment_reference,
        bank=str(seller.get("bank") or ""),
        account=str(iban or seller.get("account") or ""),
        bic=str(bic or ""),
        qr_code=epc_qr.svg(code) if code else None,
    )


def money_text(amount: Decimal) -> str:
    """1234.5 -> "1,234.50"."""
    return f"{amount:,.2f}"


def percent_text(rate: Decimal) -> str:
    """0.1900 -> "19"."""
    return f"{(rate * 100).normalize():f}"


def day_text(day: date) -> str:
    """2026-12-01."""
    return day.isoformat()


def _line(snapshot: Snapshot, line: Line) -> PaperLine:
    has_own_period = (line.period_from, line.period_until) != (snapshot.period_from, snapshot.period_until)
    return PaperLine(
        line_no=str(line.line_no),
        product=line.product,
        unit=LINE_NAMES[line.unit],
        unit_german=GERMAN_UNIT_NAMES[line.unit],
        unit_chinese=CHINESE_UNIT_NAMES[line.unit],
        tokens="" if line.is_adjustment else f"{line.quantity:,}",
        price="" if line.is_adjustment else price_text(line.price),
        amount=money_text(line.amount),
        explanation=line.explanation,
        period=f"{line.period_from} – {line.period_until}" if has_own_period else None,
    )
