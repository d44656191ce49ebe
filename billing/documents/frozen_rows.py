"""From frozen rows to a snapshot. A draft can be looked at in the same way; its number says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from billing import correction, correction_order, payment_reference, tax
from billing.correction import CorrectionType
from billing.correction_order import figures_of
from billing.documents.snapshot import CANCELLATION, INVOICE, MILLION, EuroTax, Line, Original, Snapshot
from studio import gpu_usage, ids, storage_usage
from studio.db.catalog import Model, ModelVariant
from studio.db.corrections import Correction
from studio.db.invoices import Invoice, InvoicedLine, InvoiceLine, RatedLine
from studio.db.tenancy import Tenant
from studio.errors import NotFound
from studio.money import Currency, RoundingMode

DRAFT_NUMBER = "DRAFT / ENTWURF"
# "20095 Hamburg": a code before the town, for parties that were written before there was a field for it.
_BANK_AND_IBAN = re.compile(r"^(.*?),? IBAN ([A-Z]{2}\d{2}[A-Z0-9 ]{11,30})$")
_CODE_AND_TOWN = re.compile(r"^((?:[A-Z]{1,3}-)?\d[\dA-Z-]*)\s+(\S.*)$")


def of_invoice(session: Session, invoice_id: UUID) -> Snapshot:
    """The content of an invoice."""
    invoice = session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound(f"There is no invoice {ids.to_wire(ids.INVOICE, invoice_id)}.")
    seller = party(invoice.seller)
    due = invoice.gross - invoice.prepaid
    # A draft has no day of issue yet; it is shown with that of its draft.
    issued_on = invoice.issued_on or invoice.drafted_at.date()
    return Snapshot(
        id=ids.to_wire(ids.INVOICE, invoice.id),
        tenant=ids.to_wire(ids.TENANT, invoice.tenant_id),
        type=INVOICE,
        number=invoice.number or DRAFT_NUMBER,
        issued_on=issued_on,
        due_on=issued_on + timedelta(days=invoice.payment_days) if due > 0 else None,
        period_from=invoice.period_from,
        period_until=invoice.period_until,
        time_zone=invoice.time_zone,
        currency=invoice.currency,
        seller=seller,
        buyer=party(invoice.buyer),
        buyer_reference=_buyer_reference(session, invoice),
        lines=_invoice_lines(session, invoice),
        tax_category=invoice.tax_category,
        tax_rate=invoice.tax_rate,
        exemption_code=invoice.tax_details.get("exemption_code"),
        exemption_reason=invoice.tax_details.get("reason"),
        euro_tax=_euro_tax(invoice, invoice.tax),
        net=invoice.net,
        tax=invoice.tax,
        gross=invoice.gross,
        prepaid=invoice.prepaid,
        due=due,
        payment_reference=payment_reference.of_invoice(invoice.number) if invoice.number and due > 0 else None,
        original=None,
        rounding_mode=RoundingMode(invoice.rounding_mode),
    )


def of_correction(session: Session, correction_id: UUID) -> Snapshot:
    """The content of a correction."""
    row = session.get(Correction, correction_id)
    if row is None:
        raise NotFound(f"There is no correction {ids.to_wire(ids.CORRECTION, correction_id)}.")
    invoice = session.get_one(Invoice, row.invoice_id)
    assert invoice.number is not None
    assert invoice.issued_on is not None
    sign = -1 if row.type == CANCELLATION else 1
    seller = party(invoice.seller)
    issued_on = row.issued_on or row.ordered_at.date()
    is_to_be_paid = not CorrectionType(row.type).takes_back
    return Snapshot(
        id=ids.to_wire(ids.CORRECTION, row.id),
        tenant=ids.to_wire(ids.TENANT, row.tenant_id),
        type=row.type,
        number=row.number or DRAFT_NUMBER,
        issued_on=issued_on,
        due_on=issued_on + timedelta(days=invoice.payment_days) if is_to_be_paid else None,
        period_from=invoice.period_from,
        period_until=invoice.period_until,
        time_zone=invoice.time_zone,
        currency=row.currency,
        seller=seller,
        buyer=party(invoice.buyer),
        buyer_reference=_buyer_reference(session, invoice),
        lines=_correction_lines(session, row, invoice, sign),
        tax_category=row.tax_category,
        tax_rate=row.tax_rate,
        exemption_code=invoice.tax_details.get("exemption_code"),
        exemption_reason=invoice.tax_details.get("reason"),
        euro_tax=_euro_tax(invoice, sign * row.tax),
        net=sign * row.net,
        tax=sign * row.tax,
        gross=sign * row.gross,
        prepaid=Decimal("0.00"),
        due=sign * row.gross,
        payment_reference=payment_reference.of_invoice(row.number) if row.number and is_to_be_paid else None,
        original=_original(session, row, invoice),
        rounding_mode=RoundingMode(invoice.rounding_mode),
    )


def party(details: Mapping[str, Any]) -> dict[str, Any]:
    """Seller or buyer with postcode and town apart, and with the IBAN that once stood in the bank's name."""
    apart = dict(details)
    town = _CODE_AND_TOWN.match(str(details.get("city") or ""))
    if town and not details.get("postcode"):
        apart |= {"postcode": town[1], "city": town[2]}
    account = _BANK_AND_IBAN.match(str(details.get("bank") or ""))
    if account and not details.get("iban"):
        apart |= {"bank": account[1], "iban": account[2].replace(" ", "")}
    return apart


def _buyer_reference(session: Session, invoice: Invoice) -> str:
    return str(invoice.buyer.get("reference") or session.get_one(Tenant, invoice.tenant_id).slug)


def _euro_tax(invoice: Invoice, amount: Decimal) -> EuroTax | None:
    euro = invoice.tax_details.get("euro")
    if euro is None:
        return None
    rate = Decimal(euro["units_per_euro"])
    month = date.fromisoformat(euro["month"])
    return EuroTax(tax.in_euro(amount, rate), rate, month, euro["source"], euro["derivation"])


def _invoice_lines(session: Session, invoice: Invoice) -> tuple[Line, ...]:
    days = (
        select(
            InvoicedLine.line_no,
            func.min(RatedLine.billing_day).label("first"),
            func.max(RatedLine.billing_day).label("last"),
            func.string_agg(RatedLine.code_version.distinct(), ", ").label("rated_by"),
        )
        .join(RatedLine, RatedLine.id == InvoicedLine.rated_line_id)
        .where(InvoicedLine.invoice_id == invoice.id)
        .group_by(InvoicedLine.line_no)
    )
    found = session.execute(days).all()
    periods = {row.line_no: (row.first, row.last) for row in found}
    rated_by = {row.line_no: row.rated_by for row in found}
    whole = (invoice.period_from, invoice.period_until)
    return tuple(
        Line(
            line_no=line.line_no,
            product=product,
            unit=line.unit,
            # An adjustment is one piece at its amount.
            quantity=line.tokens // MILLION if line.price_id is None else line.tokens,
            price=line.per_million,
            base=1 if line.price_id is None else MILLION,
            amount=line.amount,
            explanation=line.explanation,
            period_from=periods.get(line.line_no, whole)[0],
            period_until=periods.get(line.line_no, whole)[1],
            rated_by=rated_by.get(line.line_no),
        )
        for line, product in _lines_and_products(session, invoice.id)
    )


def _correction_lines(session: Session, row: Correction, invoice: Invoice, sign: int) -> tuple[Line, ...]:
    amounts = {line.line_no: line.amount for line in figures_of(session, row).lines}
    explained = {line.line_no: line.explanation for line in correction_order.lines_of(session, row.id)}
    return tuple(
        Line(
            line_no=line.line_no,
            product=product,
            unit=line.unit,
            quantity=sign,
            price=amounts[line.line_no],
            base=1,
            amount=sign * amounts[line.line_no],
            explanation=": ".join(
                filter(None, (f"Line {line.line_no} of invoice {invoice.number}", explained[line.line_no]))
            ),
            period_from=invoice.period_from,
            period_until=invoice.period_until,
            invoiced=line.amount,
        )
        for line, product in _lines_and_products(session, invoice.id)
        if line.line_no in amounts
    )


def _lines_and_products(session: Session, invoice_id: UUID) -> list[tuple[InvoiceLine, str]]:
    query = (
        select(InvoiceLine, Model.name, ModelVariant.tier)
        .outerjoin(ModelVariant, ModelVariant.id == InvoiceLine.variant_id)  # a minimum commitment is of no model
        .outerjoin(Model, Model.id == ModelVariant.model_id)
        .where(InvoiceLine.invoice_id == invoice_id)
        .order_by(InvoiceLine.line_no)
    )
    return [(line, _product(line, name, tier)) for line, name, tier in session.execute(query)]


def _product(line: InvoiceLine, name: str | None, tier: str | None) -> str:
    if line.unit in (storage_usage.UNIT, gpu_usage.UNIT):  # of no tier
        return str(name)
    return f"{name}, {tier}" if name else ""


def _original(session: Session, row: Correction, invoice: Invoice) -> Original:
    assert invoice.number is not None
    assert invoice.issued_on is not None
    left = _left_before(session, row, invoice)
    return Original(invoice.number, invoice.issued_on, row.reason, correction.net_left(left), left.tax)


def _left_before(session: Session, row: Correction, invoice: Invoice) -> correction.Left:
    """What was left when this correction became final.

    What takes back is ordered by its number, which is given in the turn that corrections of an invoice take; the clock
    was read before that turn began.
    """
    lines = session.execute(
        select(InvoiceLine.line_no, InvoiceLine.exact, InvoiceLine.amount).where(InvoiceLine.invoice_id == invoice.id)
    )
    whole = correction.Left(
        Currency(invoice.currency), invoice.tax_rate, invoice.tax, tuple(correction.LineLeft(*line) for line in lines),
        RoundingMode(invoice.rounding_mode),
    )  # fmt: skip
    others = select(Correction).where(
        Correction.invoice_id == invoice.id, Correction.state == "final", Correction.id != row.id
    )
    earlier = [
        (CorrectionType(other.type), figures_of(session, other))
        for other in session.scalars(others).all()
        if row.number is None or _came_before(other, row)
    ]
    return correction.left_after(whole, earlier)


def _came_before(other: Correction, row: Correction) -> bool:
    assert other.number is not None
    assert other.finalized_at is not None
    assert row.number is not None
    assert row.finalized_at is not None
    if CorrectionType(other.type).takes_back and CorrectionType(row.type).takes_back:
        return other.number < row.number
    return other.finalized_at <= row.finalized_at
