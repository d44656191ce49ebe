"""Write-offs: what an invoice owes is given up. One person proposes, another approves; the yes books it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Select, exists, func, insert, select
from sqlalchemy.orm import Session

from billing import booking, four_eyes, payment_postings, payments, receivables
from billing.payment_orders import today
from billing.payment_postings import Booked
from studio import ids
from studio.db.invoices import Invoice
from studio.db.payments import WriteOff, WriteOffDecision
from studio.db.tenancy import LegalEntity
from studio.errors import Conflict, NotFound, PermissionDenied


class MoreThanOpen(Conflict):
    """More was to be written off than is open."""

    default_code = "more_than_open"


class DecidedAlready(Conflict):
    """Somebody has said yes or no already."""

    default_code = "decided_already"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A write-off with what became of it. `is_approved` is None as long as nobody has decided."""

    id: UUID
    invoice_id: UUID
    number: str
    amount: Decimal
    currency: str
    reason: str
    proposed_by: str
    is_approved: bool | None
    decided_by: str | None


def propose(session: Session, invoice_id: UUID, amount: Decimal | None, by: str, reason: str, now: datetime) -> UUID:
    """A proposal over `amount`, or all that is open. It books nothing."""
    standing = _open(session, invoice_id, amount)
    write_off_id = ids.uuid7()
    session.execute(
        insert(WriteOff).values(
            id=write_off_id, invoice_id=invoice_id, tenant_id=standing.tenant_id, currency=standing.currency,
            amount=standing.open if amount is None else amount, reason=reason, proposed_by=by, proposed_at=now,
        )
    )  # fmt: skip
    return write_off_id


def approve(session: Session, write_off_id: UUID, by: str, now: datetime) -> None:
    """Another person's yes, booked at once. PermissionDenied for who proposed it, MoreThanOpen if it was paid since.

    PersonNeeded when one of both was a key and the seller counts people only.
    """
    payments.take_turns(session)
    row = _undecided(session, write_off_id)
    if four_eyes.person_of(row.proposed_by) == four_eyes.person_of(by):
        raise PermissionDenied("You proposed this write-off: another person has to approve it.")
    standing = _open(session, row.invoice_id, row.amount)
    seller = session.get_one(LegalEntity, standing.legal_entity_id)
    for actor in (row.proposed_by, by):
        four_eyes.require_person(seller, actor)
    posting = payment_postings.write_off(
        row.id, standing.legal_entity_id, standing.currency, standing.tenant_id,
        ids.to_wire(ids.INVOICE, row.invoice_id), row.amount, Booked(today(seller, now), by, row.reason),
    )  # fmt: skip
    _decide(session, row, by, now, booking.post(session, posting))


def reject(session: Session, write_off_id: UUID, by: str, now: datetime) -> None:
    """A no, by anybody: also by who proposed it."""
    payments.take_turns(session)
    _decide(session, _undecided(session, write_off_id), by, now, None)


def proposals(session: Session, *, only_open: bool = False) -> list[Proposal]:
    """Newest first; only those that nobody has decided."""
    columns = (
        WriteOff.id, WriteOff.invoice_id, func.coalesce(Invoice.number, ""), WriteOff.amount, WriteOff.currency,
        WriteOff.reason, WriteOff.proposed_by, WriteOffDecision.is_approved, WriteOffDecision.decided_by,
    )  # fmt: skip
    query = (
        select(*columns)
        .join(Invoice, Invoice.id == WriteOff.invoice_id)
        .outerjoin(WriteOffDecision, WriteOffDecision.write_off_id == WriteOff.id)
        .order_by(WriteOff.id.desc())
    )
    if only_open:
        query = query.where(WriteOffDecision.write_off_id.is_(None))
    return [Proposal(*row) for row in session.execute(query)]


def undecided() -> Select[WriteOff]:
    """The rows of which nobody has decided."""
    return select(WriteOff).where(~exists().where(WriteOffDecision.write_off_id == WriteOff.id))


def _open(session: Session, invoice_id: UUID, amount: Decimal | None) -> receivables.Standing:
    standing = receivables.standing(session, invoice_id)
    if standing is None:
        raise NotFound(f"there is no final invoice {ids.to_wire(ids.INVOICE, invoice_id)}")
    if standing.open <= 0 or (amount is not None and amount > standing.open):
        left = max(standing.open, Decimal("0.00"))
        raise MoreThanOpen(f"Only {left} {standing.currency} of {standing.number} is open.")
    return standing


def _undecided(session: Session, write_off_id: UUID) -> WriteOff:
    row = session.get(WriteOff, write_off_id)
    if row is None:
        raise NotFound(f"there is no write-off {ids.to_wire(ids.WRITE_OFF, write_off_id)}")
    decided = session.get(WriteOffDecision, write_off_id)
    if decided is not None:
        raise DecidedAlready(f"It was {'approved' if decided.is_approved else 'rejected'} by {decided.decided_by}.")
    return row


def _decide(session: Session, row: WriteOff, by: str, now: datetime, transaction_id: UUID | None) -> None:
    session.execute(
        insert(WriteOffDecision).values(
            write_off_id=row.id, proposed_by=row.proposed_by, is_approved=transaction_id is not None, decided_by=by,
            decided_at=now, transaction_id=transaction_id,
        )
    )  # fmt: skip
