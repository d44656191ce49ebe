"""Approvals: a person's deliberate "make this final at this total", of an invoice's draft or of a correction.

Carried out once, by `finalize.py` and `correction_finalize.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import exists, insert, select
from sqlalchemy.orm import Session

from studio import ids
from studio.db.corrections import Correction, CorrectionDocument
from studio.db.invoices import Approval, Invoice, InvoiceDocument
from studio.errors import Conflict, NotFound


class TotalDiffers(Conflict):
    """The draft's total is not the one that the person saw."""

    default_code = "total_differs"


class InvoiceIsFinal(Conflict):
    """After finalising nothing changes."""

    default_code = "invoice_is_final"


@dataclass(frozen=True, slots=True)
class WaitingApproval:
    """An approval whose invoice or correction is not final, or has no document yet."""

    id: UUID
    invoice_id: UUID
    approved_at: datetime


def approve(session: Session, *, invoice_id: UUID, expected_gross: Decimal, by: str, now: datetime) -> UUID:
    """Record a person's approval of a draft; its id. Refused at once where finalising could not succeed."""
    invoice = session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound(f"There is no invoice {ids.to_wire(ids.INVOICE, invoice_id)}.")
    if invoice.state == "final":
        raise InvoiceIsFinal(f"The invoice {invoice.number} is final already.")
    require_total(invoice, expected_gross)
    approval_id = ids.uuid7()
    session.execute(
        insert(Approval).values(
            id=approval_id, invoice_id=invoice_id, action="finalize",
            expected_gross=expected_gross, approved_by=by, approved_at=now,
        )
    )  # fmt: skip
    return approval_id


def approve_correction(
    session: Session, *, correction_id: UUID, expected_gross: Decimal, by: str, now: datetime
) -> UUID:
    """Record a person's approval of a correction's draft; its id."""
    correction = session.get(Correction, correction_id)
    if correction is None:
        raise NotFound(f"There is no correction {ids.to_wire(ids.CORRECTION, correction_id)}.")
    if correction.state == "final":
        raise InvoiceIsFinal(f"The correction {correction.number} is final already.")
    if correction.gross != expected_gross:
        raise TotalDiffers(f"The correction's total is {correction.gross}, not {expected_gross} {correction.currency}.")
    approval_id = ids.uuid7()
    session.execute(
        insert(Approval).values(
            id=approval_id, invoice_id=correction.invoice_id, correction_id=correction_id, action="correct",
            expected_gross=expected_gross, approved_by=by, approved_at=now,
        )
    )  # fmt: skip
    return approval_id


def require_total(invoice: Invoice, expected_gross: Decimal) -> None:
    """TotalDiffers unless the invoice still has the total that was approved."""
    if invoice.gross != expected_gross:
        raise TotalDiffers(
            f"The draft's total is {invoice.gross} {invoice.currency}, not {expected_gross} {invoice.currency}:"
            " look at it again and approve the new total."
        )


def invoice_of(session: Session, approval_id: UUID) -> UUID:
    """The invoice that an approval is about."""
    return session.get_one(Approval, approval_id).invoice_id


def waiting(session: Session) -> list[WaitingApproval]:
    """Approvals of invoices with something left to do, oldest first."""
    has_document = exists().where(InvoiceDocument.invoice_id == Approval.invoice_id)
    carried_out_by_another = exists().where(
        Invoice.id == Approval.invoice_id, Invoice.state == "final", Invoice.approval_id != Approval.id
    )
    query = (
        select(Approval.id, Approval.invoice_id, Approval.approved_at)
        .where(Approval.action == "finalize", Approval.executed_at.is_(None) | ~has_document, ~carried_out_by_another)
        .order_by(Approval.approved_at)
    )
    return [WaitingApproval(*row) for row in session.execute(query)]


def waiting_corrections(session: Session) -> list[WaitingApproval]:
    """Approvals of corrections with something left to do, oldest first."""
    has_document = exists().where(CorrectionDocument.correction_id == Approval.correction_id)
    carried_out_by_another = exists().where(
        Correction.id == Approval.correction_id, Correction.state == "final", Correction.approval_id != Approval.id
    )
    query = (
        select(Approval.id, Approval.invoice_id, Approval.approved_at)
        .where(Approval.action == "correct", Approval.executed_at.is_(None) | ~has_document, ~carried_out_by_another)
        .order_by(Approval.approved_at)
    )
    return [WaitingApproval(*row) for row in session.execute(query)]
