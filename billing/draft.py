"""Drafting: the answer to an invoice request, in rows. A draft can be redone until it is final.

It takes the rated lines of the tenant's month that stand in reconciled windows and that no invoice holds yet. The
figures come from `invoice.py`, what the price book says beyond single prices from `terms.py`.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, delete, exists, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import invoice, rounding, tax_basis, terms
from billing.invoice import Composed, RatedTokens
from studio import clock, ids
from studio.db.invoices import Invoice, InvoicedLine, InvoiceLine, InvoiceRequest, RatedLine
from studio.db.tenancy import LegalEntity, TenantBilling
from studio.db.usage import UsageWindow
from studio.errors import Conflict, NotFound
from studio.money import Currency

NOTHING_TO_INVOICE = "nothing to invoice"


class SeveralSellersInMonth(Conflict):
    """A tenant changes its legal entity or currency only where a month ends."""

    default_code = "several_sellers_in_month"


def draft(session: Session, request_id: UUID, now: datetime) -> UUID | None:
    """Answer a request: the draft's id, or None when there is nothing to invoice. What is final or void stays."""
    request = session.get(InvoiceRequest, request_id, with_for_update=True)
    if request is None:
        raise NotFound(f"There is no invoice request {request_id}.")
    take_turns(session, request.tenant_id)
    existing = session.scalars(select(Invoice).where(Invoice.request_id == request_id).with_for_update()).one_or_none()
    if existing is not None and existing.state != "draft":
        return existing.id
    if existing is not None:
        _release_lines(session, existing.id)
    if request.again_of is not None:
        _free_cancelled(session, request_id, request.again_of)
    rated = _uninvoiced(session, request.tenant_id, request.month)
    if not rated and not terms.lacks_commitment(session, request.tenant_id, request.month, now):
        _answer(session, request_id, NOTHING_TO_INVOICE, now)
        return None
    invoice_id = existing.id if existing is not None else ids.uuid7()
    _write(session, invoice_id, request, rated, now)
    _answer(session, request_id, ids.to_wire(ids.INVOICE, invoice_id), now)
    return invoice_id


def take_turns(session: Session, tenant_id: UUID) -> None:
    """Until the end of the transaction nobody else drafts for this tenant, or changes the terms that a draft reads."""
    session.execute(_ONE_DRAFT_AT_A_TIME, {"tenant": f"draft {tenant_id}"})


def _uninvoiced(session: Session, tenant_id: UUID, month: date) -> list[RatedLine]:
    query = (
        select(RatedLine)
        .join(
            UsageWindow,
            (UsageWindow.window_day == RatedLine.window_day)
            & (UsageWindow.tenant_id == RatedLine.tenant_id)
            & (UsageWindow.seal_no == RatedLine.seal_no),
        )
        .where(
            RatedLine.tenant_id == tenant_id,
            RatedLine.billing_day >= month,
            RatedLine.billing_day < clock.next_month(month),
            UsageWindow.state == "reconciled",
            ~exists().where(InvoicedLine.rated_line_id == RatedLine.id, InvoicedLine.freed_by.is_(None)),
        )
    )
    return list(session.scalars(query))


def _write(session: Session, invoice_id: UUID, request: InvoiceRequest, rated: list[RatedLine], now: datetime) -> None:
    period_from = min((line.billing_day for line in rated), default=request.month)
    period_until = max(
        (line.billing_day for line in rated), default=clock.next_month(request.month) - timedelta(days=1)
    )
    billing = session.scalars(_terms_on(request.tenant_id, period_until)).one()
    sellers = {(line.legal_entity_id, line.currency) for line in rated} or {(billing.legal_entity_id, billing.currency)}
    if len(sellers) > 1:
        raise SeveralSellersInMonth(f"The usage of {request.month:%B %Y} has several sellers: {sorted(sellers)}.")
    (legal_entity_id, currency), *_ = sellers
    seller = session.get_one(LegalEntity, legal_entity_id)
    basis = tax_basis.basis(session, seller, billing, currency, period_until, now)
    mode = rounding.mode_of(session, Currency.parse(currency), request.month)
    month = terms.Month(request.tenant_id, request.month, Currency.parse(currency), invoice_id, now)
    composed = invoice.compose(
        [_as_rated_tokens(line) for line in rated],
        month.currency,
        basis.rate,
        terms.volumes(session, month, {line.price_id for line in rated}),
        lambda usage: terms.adjustments(session, month, usage),
        rounding=mode,
    )
    row = {
        "tenant_id": request.tenant_id, "legal_entity_id": legal_entity_id, "request_id": request.id,
        "month": request.month, "period_from": period_from, "period_until": period_until,
        "time_zone": billing.time_zone, "state": "draft", "currency": currency, "rounding_mode": mode,
        "tax_category": basis.category, "tax_rate": basis.rate, "tax_details": basis.details,
        "net": composed.net.amount, "tax": composed.tax.amount, "gross": composed.gross.amount,
        "seller": {"name": seller.name, "country": seller.country, **seller.details}, "buyer": billing.buyer,
        "drafted_at": now,
        "payment_days": seller.payment_days if billing.payment_days is None else billing.payment_days,
    }  # fmt: skip
    # Redoing a draft keeps its row: approvals point at it, and void themselves when the total has changed.
    draft_row = insert(Invoice).values(id=invoice_id, **row)
    session.execute(draft_row.on_conflict_do_update(index_elements=[Invoice.id], set_=row))
    _write_lines(session, invoice_id, composed)


def _write_lines(session: Session, invoice_id: UUID, composed: Composed) -> None:
    lines = [{"invoice_id": invoice_id, **asdict(line)} for line in composed.lines]
    held = [
        {"rated_line_id": rated_line_id, "invoice_id": invoice_id, "line_no": line["line_no"]}
        for line in lines
        for rated_line_id in line.pop("rated_line_ids")
    ]
    session.execute(insert(InvoiceLine), lines)
    if held:
        session.execute(insert(InvoicedLine), held)


def _release_lines(session: Session, invoice_id: UUID) -> None:
    session.execute(delete(InvoicedLine).where(InvoicedLine.invoice_id == invoice_id))
    session.execute(delete(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id))


def _free_cancelled(session: Session, request_id: UUID, cancelled_id: UUID) -> None:
    """The database refuses it unless the invoice is cancelled and the request names it. Again it finds nothing."""
    session.execute(
        update(InvoicedLine)
        .where(InvoicedLine.invoice_id == cancelled_id, InvoicedLine.freed_by.is_(None))
        .values(freed_by=request_id)
    )


def _answer(session: Session, request_id: UUID, answer: str, now: datetime) -> None:
    session.execute(
        update(InvoiceRequest).where(InvoiceRequest.id == request_id).values(answered_at=now, answer=answer)
    )


def _terms_on(tenant_id: UUID, day: date) -> Select[TenantBilling]:
    return select(TenantBilling).where(
        TenantBilling.tenant_id == tenant_id,
        TenantBilling.valid_from <= day,
        or_(TenantBilling.valid_until.is_(None), TenantBilling.valid_until > day),
    )


def _as_rated_tokens(line: RatedLine) -> RatedTokens:
    return RatedTokens(line.id, line.variant_id, line.unit, line.price_id, line.per_million, line.tokens, line.basis)


_ONE_DRAFT_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:tenant, 0))")
