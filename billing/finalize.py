"""Finalising: an approved draft becomes an invoice with a number, for ever, and stands in the ledger.

Needs an approval of exactly this draft, a buyer who has what documents must show, and no hold of its tenant. Carrying
out the same approval twice gives the same number.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from billing import four_eyes, holds, invoice_booking, numbers
from billing.approval import InvoiceIsFinal, require_draft, require_total
from billing.documents import completeness
from studio import clock, ids
from studio.db.invoices import Approval, Invoice, InvoiceLine
from studio.db.tenancy import LegalEntity
from studio.errors import NotFound


def finalize(session: Session, approval_id: UUID, now: datetime) -> str:
    """Make the approved draft final; its number.

    Numbers have no gap per legal entity and year: the series is locked last and briefly, so a failure before gives the
    number back, and nobody waits for a slow neighbour.
    """
    approval = session.get(Approval, approval_id, with_for_update=True)
    if approval is None:
        raise NotFound(f"There is no approval {ids.to_wire(ids.APPROVAL, approval_id)}.")
    invoice = session.get_one(Invoice, approval.invoice_id, with_for_update=True)
    if invoice.state == "final":
        if invoice.approval_id == approval_id and invoice.number is not None:
            return invoice.number
        raise InvoiceIsFinal(f"The invoice {invoice.number} was made final by another approval.")
    require_draft(invoice)
    require_total(invoice, approval.expected_gross)
    holds.require_none(session, invoice.tenant_id)
    four_eyes.require_content(session, invoice, approval.content_sha256)
    _require_lines_add_up(session, invoice)
    completeness.require_complete(session, invoice)
    seller = session.get_one(LegalEntity, invoice.legal_entity_id)
    issued_on = now.astimezone(clock.zone(seller.time_zone)).date()
    session.execute(update(Approval).where(Approval.id == approval_id).values(executed_at=now))
    prepaid = invoice_booking.book(session, invoice, issued_on, approval.approved_by)
    number = numbers.next_number(session, seller, issued_on, "invoice")
    session.execute(
        update(Invoice)
        .where(Invoice.id == invoice.id)
        .values(
            state="final",
            number=number,
            issued_on=issued_on,
            finalized_at=now,
            approval_id=approval_id,
            prepaid=prepaid,
        )
    )
    return number


def _require_lines_add_up(session: Session, invoice: Invoice) -> None:
    query = select(func.coalesce(func.sum(InvoiceLine.amount), Decimal(0))).where(InvoiceLine.invoice_id == invoice.id)
    lines_total = session.scalars(query).one()
    if lines_total != invoice.net:
        raise RuntimeError(f"the lines of invoice {invoice.id} sum to {lines_total}, its net is {invoice.net}")
