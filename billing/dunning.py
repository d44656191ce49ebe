"""Dunning: which overdue invoices are to be reminded, at which level. Sending is `dunning_mail.py`.

Levels are rows: from how many days after the due date. An invoice moves up one level a day at most and is never
reminded twice at one; what was paid, written off or cancelled in between drops out by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import receivables
from billing.payment_orders import today
from billing.receivables import Standing
from studio import ids
from studio.db.invoices import Invoice
from studio.db.notices import Mail, MailAttempt
from studio.db.payments import DunningLevel, DunningNotice
from studio.db.tenancy import LegalEntity, Tenant

MAIL_KEY = func.concat("dunning ", DunningNotice.id)  # what the mail of a notice is known by


@dataclass(frozen=True, slots=True)
class Level:
    """From how many days after the due date an invoice is reminded at this level."""

    level: int
    days_overdue: int
    name: str


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an invoice has been reminded, and when it was last."""

    level: int
    proposed_on: date


@dataclass(frozen=True, slots=True)
class Reminder:
    """What is to be sent: an invoice at a level, with what is open of it."""

    invoice_id: UUID
    tenant_id: UUID
    tenant: str
    number: str
    level: int
    currency: str
    amount: Decimal
    due_on: date
    proposed_on: date


@dataclass(frozen=True, slots=True)
class Notice:
    """A reminder. `mailed_at`: when the mail server took it; None: not yet, or it is for a person to send."""

    id: UUID
    invoice_id: UUID
    tenant: str
    number: str
    level: int
    name: str
    currency: str
    amount: Decimal
    due_on: date
    proposed_on: date
    mailed_at: datetime | None


def due(
    found: Sequence[Standing], levels: Sequence[Level], reached: Mapping[UUID, Reached], today_of: Mapping[str, date]
) -> list[Reminder]:
    """The next level of every invoice that has been overdue so long. Pure. `today_of`: by legal entity."""
    reminders = []
    for one in found:
        now_on = today_of[one.legal_entity_id]
        so_far = reached.get(one.invoice_id, Reached(0, date.min))
        level = min(
            (level for level in levels if level.level > so_far.level), key=lambda level: level.level, default=None
        )
        if level is None or one.open <= 0 or so_far.proposed_on >= now_on:
            continue
        if one.days_overdue(now_on) >= level.days_overdue:
            reminders.append(
                Reminder(
                    one.invoice_id, one.tenant_id, one.tenant, one.number, level.level, one.currency, one.open,
                    one.due_on, now_on,
                )
            )  # fmt: skip
    return reminders


def propose(session: Session, now: datetime) -> list[Reminder]:
    """Write a notice, `to_send`, for everything that is due now; what was written. Twice a day writes once."""
    columns = (DunningLevel.level, DunningLevel.days_overdue, DunningLevel.name)
    levels = [Level(*row) for row in session.execute(select(*columns))]
    today_of = {seller.id: today(seller, now) for seller in session.scalars(select(LegalEntity)).all()}
    newest = select(DunningNotice.invoice_id, func.max(DunningNotice.level), func.max(DunningNotice.proposed_on))
    rows = session.execute(newest.group_by(DunningNotice.invoice_id))
    reached = {invoice_id: Reached(level, proposed_on) for invoice_id, level, proposed_on in rows}
    written = []
    for one in due(receivables.standings(session, only_unsettled=True), levels, reached, today_of):
        row = insert(DunningNotice).values(
            id=ids.uuid7(), invoice_id=one.invoice_id, tenant_id=one.tenant_id, level=one.level, state="to_send",
            currency=one.currency, amount=one.amount, due_on=one.due_on, proposed_on=one.proposed_on, recorded_at=now,
        )  # fmt: skip
        if session.scalars(row.on_conflict_do_nothing().returning(DunningNotice.id)).one_or_none() is not None:
            written.append(one)
    return written


def notices(session: Session, limit: int) -> list[Notice]:
    """Newest first."""
    mailed_at = (
        select(func.max(MailAttempt.began_at))
        .join(Mail, Mail.id == MailAttempt.mail_id)
        .where(Mail.key == MAIL_KEY, MailAttempt.outcome == "sent")
        .scalar_subquery()
    )
    columns = (
        DunningNotice.id, DunningNotice.invoice_id, Tenant.slug, func.coalesce(Invoice.number, ""),
        DunningNotice.level, DunningLevel.name, DunningNotice.currency, DunningNotice.amount,
        DunningNotice.due_on, DunningNotice.proposed_on, mailed_at,
    )  # fmt: skip
    query = (
        select(*columns)
        .join(Tenant, Tenant.id == DunningNotice.tenant_id)
        .join(Invoice, Invoice.id == DunningNotice.invoice_id)
        .join(DunningLevel, DunningLevel.level == DunningNotice.level)
        .order_by(DunningNotice.id.desc())
        .limit(limit)
    )
    return [Notice(*row) for row in session.execute(query)]
