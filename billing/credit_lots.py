"""Lots of credit: granted by a person, used by invoices as they become final, expired by the calendar.

A lot is paid for (`prepaid`) or a gift (`promotion`). It pays an invoice as money does: total and VAT stay what they
are (a top-up is a voucher, taxed when it is used). What is left of a lot is the balance of its account in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, cast, func, select, text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import booking, postings
from billing.postings import Billed, Lot, LotKind
from studio import clock, ids
from studio.db.ledger import CreditLot, LedgerAccount, LedgerEntry
from studio.db.tenancy import LegalEntity, TenantBilling
from studio.errors import Conflict, InvalidRequest
from studio.money import CENT

CALENDAR = "calendar"


class SecondPersonNeeded(Conflict):
    """The lot is too large for one person."""

    default_code = "second_person_needed"


@dataclass(frozen=True, slots=True)
class LotStanding:
    """A lot, who granted it and why, and what it was at first."""

    lot: Lot
    amount: Decimal
    granted_by: str
    reason: str


def grant(
    session: Session,
    *,
    tenant_id: UUID,
    kind: LotKind,
    amount: Decimal,
    expires_on: date | None,
    by: str,
    reason: str,
    now: datetime,
    request_id: UUID | None = None,
) -> Lot:
    """A new lot in the tenant's currency, booked. InvalidRequest for an amount or a last day that cannot be.

    SecondPersonNeeded for a large one without the request that another person has approved (`credit_requests.py`).
    """
    if request_id is None:
        require_small(session, tenant_id, amount, now)
    lot = open_lot(
        session,
        tenant_id=tenant_id,
        kind=kind,
        amount=amount,
        expires_on=expires_on,
        by=by,
        reason=reason,
        now=now,
        request_id=request_id,
    )
    booking.post(session, postings.grant(lot, by, reason))
    return lot


def require_small(session: Session, tenant_id: UUID, amount: Decimal, now: datetime) -> None:
    """SecondPersonNeeded for a lot that one person alone may not make. The database refuses it, too."""
    seller, currency = seller_of(session, tenant_id, now)
    if amount >= seller.four_eyes_credit_from or currency != seller.currency:
        raise SecondPersonNeeded(
            f"A lot of {amount} {currency} is granted by two persons: ask for it"
            " (`studio credit request`), and somebody else approves that."
        )


def open_lot(
    session: Session,
    *,
    tenant_id: UUID,
    kind: LotKind,
    amount: Decimal,
    expires_on: date | None,
    by: str,
    reason: str,
    now: datetime,
    request_id: UUID | None = None,
) -> Lot:
    """The row of a new lot. Nothing is in it until the caller books it."""
    if amount <= 0 or amount != amount.quantize(CENT):
        raise InvalidRequest(f"{amount} is no amount of credit: use more than zero, with two decimals.", param="amount")
    seller, currency = seller_of(session, tenant_id, now)
    today = _today(seller, now)
    if expires_on is not None and expires_on < today:
        raise InvalidRequest(f"{expires_on} is over: the last day is today at the earliest.", param="expires_on")
    lot = Lot(ids.uuid7(), kind, tenant_id, seller.id, currency, today, expires_on, amount)
    session.execute(
        insert(CreditLot).values(
            id=lot.id, tenant_id=tenant_id, legal_entity_id=seller.id, kind=kind, currency=currency, amount=amount,
            granted_on=today, expires_on=expires_on, granted_by=by, reason=reason, created_at=now,
            request_id=request_id,
        )
    )  # fmt: skip
    return lot


def use(session: Session, billed: Billed, on: date, by: str) -> Decimal:
    """Pay for an invoice from the tenant's lots, as far as they reach; how much that is. Needs `take_turns` before."""
    usable = (
        CreditLot.tenant_id == billed.tenant_id,
        CreditLot.legal_entity_id == billed.legal_entity_id,
        CreditLot.currency == billed.currency,
        (CreditLot.expires_on.is_(None)) | (CreditLot.expires_on >= on),
    )
    lots = [standing.lot for standing in _standings(session, *usable)]
    taken = postings.spread(lots, billed.gross)
    if not taken:
        return Decimal("0.00")
    booking.post(session, postings.use(billed, taken, on, by))
    return sum((amount for _, amount in taken), Decimal(0))


def expire(session: Session, now: datetime) -> list[Lot]:
    """Book what is left of every lot whose last day is over in its entity's zone; those lots, as they were."""
    for tenant_id in sorted({lot.tenant_id for lot in overdue(session, now)}):
        take_turns(session, tenant_id)
    lots = overdue(session, now)
    for lot in lots:
        seller = session.get_one(LegalEntity, lot.legal_entity_id)
        booking.post(session, postings.expire(lot, _today(seller, now), CALENDAR))
    return lots


def overdue(session: Session, now: datetime) -> list[Lot]:
    """Lots with something left whose last day is over."""
    return [
        standing.lot
        for seller in session.scalars(select(LegalEntity).order_by(LegalEntity.id)).all()
        for standing in _standings(
            session, CreditLot.legal_entity_id == seller.id, CreditLot.expires_on < _today(seller, now)
        )
    ]


def lots_of(session: Session, tenant_id: UUID) -> list[LotStanding]:
    """Every lot of a tenant, oldest first, the used up ones too."""
    return _standings(session, CreditLot.tenant_id == tenant_id, with_empty=True)


def lot(session: Session, lot_id: UUID) -> Lot:
    """One lot with what is left of it."""
    return _standings(session, CreditLot.id == lot_id, with_empty=True)[0].lot


def take_turns(session: Session, tenant_id: UUID) -> None:
    """Until the end of the transaction nobody else spends this tenant's credit.

    Before anything is booked in the transaction: whoever waits here must not hold up the closing of a day.
    """
    session.execute(text("select pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": f"credit {tenant_id}"})


def _standings(session: Session, *which: ColumnElement[bool], with_empty: bool = False) -> list[LotStanding]:
    standings = [_standing(row, balance) for row, balance in session.execute(_lots().where(*which))]
    return [standing for standing in standings if with_empty or standing.lot.remaining]


def _standing(row: CreditLot, balance: Decimal) -> LotStanding:
    lot = Lot(
        id=row.id, kind=row.kind, tenant_id=row.tenant_id,  # type: ignore[arg-type]  # a check constraint holds the kinds
        legal_entity_id=row.legal_entity_id, currency=row.currency, granted_on=row.granted_on,
        expires_on=row.expires_on, remaining=(-balance).quantize(CENT),
    )  # fmt: skip
    return LotStanding(lot, row.amount, row.granted_by, row.reason)


def _lots() -> Select[CreditLot, Decimal]:
    balance = (
        select(func.coalesce(func.sum(LedgerEntry.amount), 0).label("balance"))
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(
            LedgerAccount.tenant_id == CreditLot.tenant_id,
            LedgerAccount.kind == CreditLot.kind,
            LedgerAccount.detail == func.concat(ids.CREDIT, func.replace(cast(CreditLot.id, Text), "-", "")),
        )
        .lateral()
    )
    return select(CreditLot, balance.c.balance).join(balance, true()).order_by(CreditLot.granted_on, CreditLot.id)


def seller_of(session: Session, tenant_id: UUID, now: datetime) -> tuple[LegalEntity, str]:
    """Who bills a tenant today, and in which currency. InvalidRequest when nobody does."""
    today = now.date()
    query = select(TenantBilling).where(
        TenantBilling.tenant_id == tenant_id,
        TenantBilling.valid_from <= today,
        (TenantBilling.valid_until.is_(None)) | (TenantBilling.valid_until > today),
    )
    terms = session.scalars(query).one_or_none()
    if terms is None:
        raise InvalidRequest("The tenant is not billed by anybody today, so it has no currency.", param="tenant")
    return session.get_one(LegalEntity, terms.legal_entity_id), terms.currency


def _today(seller: LegalEntity, now: datetime) -> date:
    return now.astimezone(clock.zone(seller.time_zone)).date()
