"""Reviews: somebody has looked at a draft at its total. Whoever approves it then is another person."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from billing import four_eyes
from billing.approval import require_draft, require_total
from studio import ids
from studio.db.approvals import Review
from studio.db.corrections import Correction
from studio.db.invoices import Invoice
from studio.db.tenancy import LegalEntity
from studio.errors import Conflict, NotFound


class NotADraft(Conflict):
    """Only a draft can be dropped."""

    default_code = "not_a_draft"


def review(session: Session, *, invoice_id: UUID, expected_gross: Decimal, by: str, now: datetime) -> UUID:
    """Record that somebody has reviewed an invoice's draft at its total; the review's id."""
    invoice = session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound(f"There is no invoice {ids.to_wire(ids.INVOICE, invoice_id)}.")
    return _record(session, invoice, expected_gross, by, now, invoice_id=invoice_id, correction_id=None)


def review_correction(
    session: Session, *, correction_id: UUID, expected_gross: Decimal, by: str, now: datetime
) -> UUID:
    """The same for the draft of a correction."""
    correction = session.get(Correction, correction_id)
    if correction is None:
        raise NotFound(f"There is no correction {ids.to_wire(ids.CORRECTION, correction_id)}.")
    return _record(
        session, correction, expected_gross, by, now, invoice_id=correction.invoice_id, correction_id=correction_id
    )


def _record(
    session: Session,
    draft: Invoice | Correction,
    expected_gross: Decimal,
    by: str,
    now: datetime,
    *,
    invoice_id: UUID,
    correction_id: UUID | None,
) -> UUID:
    require_draft(draft)
    require_total(draft, expected_gross)
    four_eyes.require_person(session.get_one(LegalEntity, draft.legal_entity_id), by)
    review_id = ids.uuid7()
    session.execute(
        insert(Review).values(
            id=review_id, invoice_id=invoice_id, correction_id=correction_id, gross=expected_gross,
            content_sha256="", reviewed_by=by, reviewed_at=now,  # the database writes the hash of what stands there
        )
    )  # fmt: skip
    return review_id


def drop(session: Session, invoice_id: UUID) -> None:
    """A draft becomes void: it never has a number, and its usage is free for another draft. NotADraft otherwise."""
    if not session.execute(text("select void_draft(:id)"), {"id": invoice_id}).scalar_one():
        raise NotADraft("Only a draft is dropped; what is final is corrected.")


def drop_correction(session: Session, correction_id: UUID) -> None:
    """A correction's draft becomes void, and what was said of it counts no more. NotADraft otherwise."""
    if not session.execute(text("select void_correction(:id)"), {"id": correction_id}).scalar_one():
        raise NotADraft("Only a draft is dropped; a final correction stays.")
