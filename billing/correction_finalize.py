"""Carrying out an approved correction: it receives its number, stands in the ledger, and is never changed again."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from billing import booking, correction, draft, four_eyes, holds, numbers, postings, rerate_order
from billing.approval import InvoiceIsFinal, require_total
from billing.correction import CorrectionType, Figures
from billing.correction_order import figures_of, left_of, require_not_cancelled
from billing.postings import Billed, BilledLine
from studio import clock, ids
from studio.db.corrections import Correction
from studio.db.invoices import Approval, Invoice, InvoiceLine
from studio.db.tenancy import LegalEntity
from studio.errors import Conflict, NotFound


class CorrectionOutdated(Conflict):
    """Another correction of the invoice became final meanwhile, so these figures are not the right ones any more."""

    default_code = "correction_outdated"


def finalize_correction(session: Session, approval_id: UUID, now: datetime) -> str:
    """Make the approved correction final and book it; its number. The same approval again gives the same number.

    Corrections of one invoice take turns, and each is computed again: together they never take back more than there is.
    """
    approval = session.get(Approval, approval_id, with_for_update=True)
    if approval is None or approval.correction_id is None:
        raise NotFound(f"There is no approval {ids.to_wire(ids.APPROVAL, approval_id)} of a correction.")
    draft.take_turns(session, session.get_one(Invoice, approval.invoice_id).tenant_id)  # it depends on the others
    invoice = session.get_one(Invoice, approval.invoice_id, with_for_update=True)
    row = session.get_one(Correction, approval.correction_id, with_for_update=True)
    if row.state == "final":
        if row.approval_id == approval_id and row.number is not None:
            return row.number
        raise InvoiceIsFinal(f"The correction {row.number} was made final by another approval.")
    if row.state == "void":
        raise CorrectionOutdated("This draft was dropped: what it would correct comes to something else now.")
    require_total(row, approval.expected_gross)
    holds.require_none(session, row.tenant_id)
    four_eyes.require_content(session, row, approval.content_sha256)
    figures = figures_of(session, row)
    _require_current(session, invoice, row, figures)
    _require_current_prices(session, invoice, row, now)
    seller = session.get_one(LegalEntity, row.legal_entity_id)
    issued_on = now.astimezone(clock.zone(seller.time_zone)).date()
    session.execute(update(Approval).where(Approval.id == approval_id).values(executed_at=now))
    takes_back = CorrectionType(row.type).takes_back
    billed = _billed(session, row, figures)
    booking.post(session, postings.correction(billed, takes_back, issued_on, approval.approved_by, row.reason))
    number = numbers.next_number(session, seller, issued_on, "correction" if takes_back else "invoice")
    values = {"state": "final", "number": number, "issued_on": issued_on, "finalized_at": now}
    session.execute(update(Correction).where(Correction.id == row.id).values(**values, approval_id=approval_id))
    return number


def drop_if_outdated(session: Session, approval_id: UUID, now: datetime) -> None:
    """What an approval could not carry out because prices changed again leaves the list of what is open."""
    approval = session.get_one(Approval, approval_id)
    invoice = session.get_one(Invoice, approval.invoice_id)
    draft.take_turns(session, invoice.tenant_id)
    rerate_order.drop_outdated(session, invoice.tenant_id, invoice.month, now)


def _require_current(session: Session, invoice: Invoice, row: Correction, figures: Figures) -> None:
    type = CorrectionType(row.type)
    require_not_cancelled(session, invoice, type)
    is_cancellation = type is CorrectionType.CANCELLATION
    wanted = {} if is_cancellation else {line.line_no: line.amount for line in figures.lines}
    if correction.compose(left_of(session, invoice), type, wanted) != figures:
        raise CorrectionOutdated(
            f"The invoice {invoice.number} has been corrected since this was ordered: order the correction again."
        )


def _require_current_prices(session: Session, invoice: Invoice, row: Correction, now: datetime) -> None:
    if row.rerate_no is not None and not rerate_order.is_current(session, row, now):
        raise CorrectionOutdated(
            f"A re-rating of the invoice {invoice.number} comes to something else now than this says: order it again"
            f" (`studio invoice rerate {invoice.month:%Y-%m} --correct`), or nothing is left to correct."
        )


def _billed(session: Session, row: Correction, figures: Figures) -> Billed:
    query = select(InvoiceLine.line_no, InvoiceLine.unit).where(InvoiceLine.invoice_id == row.invoice_id)
    units = {line.line_no: line.unit for line in session.execute(query)}
    return Billed(
        subject=ids.to_wire(ids.CORRECTION, row.id),
        tenant_id=row.tenant_id,
        legal_entity_id=row.legal_entity_id,
        currency=row.currency,
        tax_category=row.tax_category,
        tax_rate=row.tax_rate,
        tax=figures.tax,
        gross=figures.gross,
        lines=tuple(BilledLine(line.line_no, units[line.line_no], line.exact, line.amount) for line in figures.lines),
    )
