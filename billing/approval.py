"""Approvals: a person's deliberate "make this final at this total", of an invoice's draft or of a correction.

Given after somebody else's review (`review.py`), carried out once, by `finalize.py` and `correction_finalize.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, insert, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from billing import four_eyes, holds
from billing.documents import completeness
from studio import ids
from studio.db.approvals import InvoiceHold
from studio.db.corrections import Correction, CorrectionDocument
from studio.db.invoices import Approval, Invoice, InvoiceDocument
from studio.errors import Conflict, NotFound


class TotalDiffers(Conflict):
    """The draft's total is not the one that the person saw."""

    default_code = "total_differs"


class InvoiceIsFinal(Conflict):
    """After finalising nothing changes."""

    default_code = "invoice_is_final"


class DraftIsVoid(Conflict):
    """The draft was dropped; its usage is free for another one."""

    default_code = "draft_is_void"


@dataclass(frozen=True, slots=True)
class WaitingApproval:
    """An approval whose invoice or correction is not final, or has no document yet."""

    id: UUID
    invoice_id: UUID
    approved_at: datetime  # or since when its tenant is held no more


def approve(session: Session, *, invoice_id: UUID, expected_gross: Decimal, by: str, now: datetime) -> UUID:
    """Record a person's approval of a draft; its id. Refused at once where finalising could not succeed."""
    invoice = session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound(f"There is no invoice {ids.to_wire(ids.INVOICE, invoice_id)}.")
    require_draft(invoice)
    require_total(invoice, expected_gross)
    holds.require_none(session, invoice.tenant_id)
    completeness.require_complete(session, invoice)
    four_eyes.require_second(session, invoice, ids.to_wire(ids.INVOICE, invoice_id), by)
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
    require_draft(correction)
    require_total(correction, expected_gross)
    holds.require_none(session, correction.tenant_id)
    four_eyes.require_second(session, correction, ids.to_wire(ids.CORRECTION, correction_id), by)
    approval_id = ids.uuid7()
    session.execute(
        insert(Approval).values(
            id=approval_id, invoice_id=correction.invoice_id, correction_id=correction_id, action="correct",
            expected_gross=expected_gross, approved_by=by, approved_at=now,
        )
    )  # fmt: skip
    return approval_id


def require_draft(draft: Invoice | Correction) -> None:
    """InvoiceIsFinal, or DraftIsVoid, unless something can still become of it."""
    what = "correction" if isinstance(draft, Correction) else "invoice"
    if draft.state == "final":
        raise InvoiceIsFinal(f"The {what} {draft.number} is final already.")
    if draft.state == "void":
        raise DraftIsVoid(f"This draft was dropped; order the {what} again.")


def require_total(draft: Invoice | Correction, expected_gross: Decimal) -> None:
    """TotalDiffers unless the draft still has the total that was seen."""
    if draft.gross != expected_gross:
        what = "correction" if isinstance(draft, Correction) else "draft"
        raise TotalDiffers(
            f"The {what}'s total is {draft.gross}, not {expected_gross} {draft.currency}:"
            " look at it again and name the new total."
        )


def invoice_of(session: Session, approval_id: UUID) -> UUID:
    """The invoice that an approval is about."""
    return session.get_one(Approval, approval_id).invoice_id


def waiting(session: Session) -> list[WaitingApproval]:
    """Approvals of invoices with something left to do, oldest first."""
    has_document = exists().where(InvoiceDocument.invoice_id == Approval.invoice_id)
    carried_out_by_another = (Invoice.state == "final") & (Invoice.approval_id != Approval.id)
    query = (
        select(Approval.id, Approval.invoice_id, _free_since(Invoice.tenant_id))
        .join(Invoice, Invoice.id == Approval.invoice_id)
        .where(
            Approval.action == "finalize",
            Approval.executed_at.is_(None) | ~has_document,
            ~carried_out_by_another,
            Invoice.state != "void",
            Approval.executed_at.is_not(None) | ~_is_held(Invoice.tenant_id),
        )
        .order_by(Approval.approved_at)
    )
    return [WaitingApproval(*row) for row in session.execute(query)]


def waiting_corrections(session: Session) -> list[WaitingApproval]:
    """Approvals of corrections with something left to do, oldest first."""
    has_document = exists().where(CorrectionDocument.correction_id == Approval.correction_id)
    carried_out_by_another = (Correction.state == "final") & (Correction.approval_id != Approval.id)
    query = (
        select(Approval.id, Approval.invoice_id, _free_since(Correction.tenant_id))
        .join(Correction, Correction.id == Approval.correction_id)
        .where(
            Approval.action == "correct",
            Approval.executed_at.is_(None) | ~has_document,
            ~carried_out_by_another,
            Correction.state != "void",
            Approval.executed_at.is_not(None) | ~_is_held(Correction.tenant_id),
        )
        .order_by(Approval.approved_at)
    )
    return [WaitingApproval(*row) for row in session.execute(query)]


def _is_held(tenant_id: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    return exists().where(InvoiceHold.tenant_id == tenant_id, InvoiceHold.released_at.is_(None))


def _free_since(tenant_id: InstrumentedAttribute[UUID]) -> ColumnElement[datetime]:
    """Attempts are counted from here: a hold of a week does not use them up."""
    released = select(func.max(InvoiceHold.released_at)).where(InvoiceHold.tenant_id == tenant_id).scalar_subquery()
    return func.greatest(Approval.approved_at, released)
