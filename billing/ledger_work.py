"""What the ledger waits for: invoices to be booked, credit to expire, days to be closed. Computed from rows only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy.orm import Session

from billing import credit_lots, invoice_booking, ledger_days
from studio import ids


@dataclass(frozen=True, slots=True)
class Waiting:
    """One piece of work, and since when it waits."""

    what: str
    since: datetime


def waiting(session: Session, now: datetime) -> list[Waiting]:
    """Everything that a run would do now."""
    invoices = [
        Waiting(f"book {invoice.number}", invoice.finalized_at)
        for invoice in invoice_booking.missing(session)
        if invoice.finalized_at is not None
    ]
    lots = [
        Waiting(f"expire {ids.to_wire(ids.CREDIT, lot.id)}", _end_of(lot.expires_on))
        for lot in credit_lots.overdue(session, now)
        if lot.expires_on is not None
    ]
    days = [Waiting(f"close {day}", _end_of(day)) for day in ledger_days.open_days(session, now)]
    return [*invoices, *lots, *days]


def do(session: Session, now: datetime) -> list[str]:
    """Book and expire what waits; what was done. Days are closed after this, in a transaction of their own."""
    expired = credit_lots.expire(session, now)  # first, as it waits for who spends credit (`take_turns`)
    booked = invoice_booking.book_missing(session)
    return [
        *(f"booked {number}" for number in booked),
        *(f"expired {lot.remaining} {lot.currency} of {ids.to_wire(ids.CREDIT, lot.id)}" for lot in expired),
    ]


def _end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time.min, UTC)
