"""Payments: recorded once, booked, and matched to what they pay. Every change is a row more and a posting with it.

Whoever changes something takes turns with everybody else (`take_turns`), so what is open is still open when it is paid.
Deciding what a payment is for: `payment_matching.py`. Reading: `payment_queue.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from billing import booking, credit_lots, payment_postings, receivables
from billing.ledger import Entry
from billing.payment_matching import Part, Target
from billing.payment_postings import Booked, account_of
from studio import clock, ids
from studio.db.payments import Payment, PaymentMatch
from studio.db.tenancy import LegalEntity
from studio.errors import Conflict, InvalidRequest, NotFound

Source = Literal["camt.053", "csv", "manual", "stripe"]


class MoreThanPaid(Conflict):
    """More was to be matched, taken back or paid out than there is."""

    default_code = "more_than_paid"


class RecordedDifferently(Conflict):
    """The key was recorded before, with another amount, account or day. Neither is changed."""

    default_code = "recorded_differently"


@dataclass(frozen=True, slots=True)
class NewPayment:
    """What a bank, a provider or a person says has been paid. `entry_key`: the same money is recorded once."""

    legal_entity_id: str
    currency: str
    amount: Decimal
    account: str
    source: Source
    entry_key: str
    booked_on: date
    payer: str | None = None
    payer_account: str | None = None
    remittance: str = ""
    end_to_end_id: str | None = None
    is_return: bool = False
    file_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class LiveMatch:
    """A match with what is left of it after others have taken back."""

    id: UUID
    target: Target
    tenant_id: UUID | None
    invoice_id: UUID | None
    lot_id: UUID | None
    amount: Decimal


def take_turns(session: Session) -> None:
    """Until the end of the transaction nobody else records or matches payments. Before anything is booked in it."""
    session.execute(text("select pg_advisory_xact_lock(hashtextextended('payments', 0))"))


def record(session: Session, new: NewPayment, by: str) -> Payment | None:
    """A payment, booked from the bank onto clearing; None when it is recorded already. Needs `take_turns` before.

    RecordedDifferently when the same key was recorded as other money.
    """
    before = session.scalars(select(Payment).where(Payment.entry_key == new.entry_key)).one_or_none()
    if before is not None:
        if (before.amount, before.currency, before.account) != (new.amount, new.currency, new.account):
            raise RecordedDifferently(
                f"{new.entry_key} was recorded as {before.amount} {before.currency} on {before.account}"
                f" ({ids.to_wire(ids.PAYMENT, before.id)}), not {new.amount} {new.currency} on {new.account}."
            )
        return None
    payment_id = ids.uuid7()
    booked = Booked(new.booked_on, by, f"{new.source} {new.account}")
    posting = payment_postings.payment(payment_id, new.legal_entity_id, new.currency, new.account, new.amount, booked)
    row = Payment(
        id=payment_id, legal_entity_id=new.legal_entity_id, currency=new.currency, amount=new.amount,
        account=new.account, source=new.source, entry_key=new.entry_key, booked_on=new.booked_on, payer=new.payer,
        payer_account=new.payer_account, remittance=new.remittance, end_to_end_id=new.end_to_end_id,
        is_return=new.is_return, file_id=new.file_id, recorded_by=by, transaction_id=booking.post(session, posting),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def find(session: Session, payment_id: UUID) -> Payment:
    """NotFound when there is none."""
    row = session.get(Payment, payment_id)
    if row is None:
        raise NotFound(f"there is no payment {ids.to_wire(ids.PAYMENT, payment_id)}")
    return row


def unmatched(session: Session, payment: Payment) -> Decimal:
    """What of a payment nobody has said what it is for; of the sign of the payment."""
    query = select(func.coalesce(func.sum(PaymentMatch.amount), 0)).where(PaymentMatch.payment_id == payment.id)
    return payment.amount - session.scalars(query).one()


def match(session: Session, payment: Payment, parts: Sequence[Part], by: str, why: str, now: datetime) -> None:
    """Say what (a part of) incoming money is for. Needs `take_turns` before.

    What lies unapplied of this same payment is used when its unmatched rest is not enough. MoreThanPaid beyond that,
    and where an invoice would be paid beyond what is open.
    """
    wanted = sum((part.amount for part in parts), Decimal(0))
    missing = wanted - max(unmatched(session, payment), Decimal(0))
    if missing > 0:
        _release_unapplied(session, payment, missing, by, why, now)
    _require_open(session, payment, parts)
    for part in parts:
        if part.target == "credit":
            _top_up(session, payment, part, by, why, now)
        else:
            row = _Row(part.target, part.tenant_id, part.invoice_id, None, part.amount, None)
            _write(session, payment, row, by, why, now)


def match_outside(session: Session, payment: Payment, by: str, why: str, now: datetime) -> None:
    """The unmatched rest is no customer's: a provider's payout, a tax refund. The company's main books have it."""
    left = unmatched(session, payment)
    if not left:
        raise MoreThanPaid("The payment is matched already.")
    _write(session, payment, _Row("outside", None, None, None, left, None), by, why, now)


def unmatch(session: Session, payment: Payment, by: str, why: str, now: datetime) -> Decimal:
    """Take all matches of a payment back, so that it waits again; how much that is. Needs `take_turns` before."""
    taken = Decimal(0)
    for live in live_matches(session, payment):
        if live.target == "credit":
            raise Conflict("A top-up is credit already and stays it: refund the payment instead.")
        row = _Row(live.target, live.tenant_id, live.invoice_id, None, -live.amount, live.id)
        _write(session, payment, row, by, why, now)
        taken += live.amount
    return taken


def take_back(session: Session, outgoing: Payment, original: Payment, by: str, why: str, now: datetime) -> None:
    """Money that went out takes back what an earlier payment had paid. Needs `take_turns` before.

    First what lies unapplied or nobody has matched, then credit (`hold_credit` before), then invoices, the last one
    first: they are open again. Credit that was used already is owed: it stands in the tenant's unapplied money,
    negative. MoreThanPaid when the earlier payment was not that much, or is taken back already.
    """
    left = -unmatched(session, outgoing)
    rest = unmatched(session, original)
    lives = sorted(live_matches(session, original), key=lambda live: _TAKEN_FIRST.index(live.target))
    available = rest + sum((live.amount for live in lives if live.target != "outside"), Decimal(0))
    if (
        original.amount <= 0
        or original.currency != outgoing.currency
        or (original.legal_entity_id != outgoing.legal_entity_id)
    ):
        raise InvalidRequest(
            "Only money that came in, to the same company and in the same currency, can be taken back."
        )
    if left > available:
        raise MoreThanPaid(
            f"{left} {outgoing.currency} is more than the {available} that is left of the payment"
            f" {ids.to_wire(ids.PAYMENT, original.id)}."
        )
    if unknown := min(rest, left):
        # Nobody knew what it was for, and it is gone again: no customer's, both ways.
        _write(session, original, _Row("outside", None, None, None, unknown, None), by, why, now)
        _write(session, outgoing, _Row("outside", None, None, None, -unknown, None), by, why, now)
        left -= unknown
    for live in lives:
        taken = min(live.amount, left)
        if taken and live.target != "outside":
            row = _Row(live.target, live.tenant_id, live.invoice_id, live.lot_id, -taken, live.id)
            _write(session, outgoing, row, by, why, now)
            left -= taken


def pay_out(session: Session, outgoing: Payment, invoice_id: UUID, by: str, why: str, now: datetime) -> None:
    """Money that went out settles an invoice that had become negative. MoreThanPaid beyond that. Needs `take_turns`."""
    standing = receivables.standing(session, invoice_id)
    if standing is None:
        raise NotFound(f"there is no final invoice {ids.to_wire(ids.INVOICE, invoice_id)}")
    if (standing.currency, standing.legal_entity_id) != (outgoing.currency, outgoing.legal_entity_id):
        raise InvalidRequest(f"The invoice {standing.number} is in the books of {standing.legal_entity_id}.")
    if standing.open > outgoing.amount:
        owed = max(-standing.open, Decimal("0.00"))
        raise MoreThanPaid(f"Of {standing.number} we owe {owed} {standing.currency}, not {-outgoing.amount}.")
    row = _Row("invoice", standing.tenant_id, invoice_id, None, outgoing.amount, None)
    _write(session, outgoing, row, by, why, now)


def hold_credit(session: Session, original: Payment) -> None:
    """Until the end of the transaction no invoice uses the credit that a payment became. Before anything is booked."""
    held = {live.tenant_id for live in live_matches(session, original) if live.target == "credit"}
    for tenant_id in sorted(filter(None, held)):
        credit_lots.take_turns(session, tenant_id)


def live_matches(session: Session, payment: Payment) -> list[LiveMatch]:
    """What a payment is for now, newest first: matches less what others took back of them."""
    rows = session.execute(_LIVE, {"payment_id": payment.id}).mappings()
    return [LiveMatch(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class _Row:
    target: Target
    tenant_id: UUID | None
    invoice_id: UUID | None
    lot_id: UUID | None
    amount: Decimal
    reverses_id: UUID | None


def _top_up(session: Session, payment: Payment, part: Part, by: str, why: str, now: datetime) -> None:
    reason = f"payment {ids.to_wire(ids.PAYMENT, payment.id)}"
    if payment.source == "manual":  # nobody but the person who types it says that this money came
        credit_lots.require_small(session, part.tenant_id, part.amount, now)
    lot = credit_lots.open_lot(
        session, tenant_id=part.tenant_id, kind="prepaid", amount=part.amount, expires_on=None, by=by, reason=reason,
        now=now,
    )  # fmt: skip
    if (lot.legal_entity_id, lot.currency) != (payment.legal_entity_id, payment.currency):
        raise InvalidRequest(f"The tenant is billed in {lot.currency} by {lot.legal_entity_id}: this is other money.")
    _write(session, payment, _Row("credit", part.tenant_id, None, lot.id, part.amount, None), by, why, now)


def _release_unapplied(session: Session, payment: Payment, missing: Decimal, by: str, why: str, now: datetime) -> None:
    for live in live_matches(session, payment):
        if live.target == "unapplied" and missing:
            taken = min(live.amount, missing)
            _write(session, payment, _Row("unapplied", live.tenant_id, None, None, -taken, live.id), by, why, now)
            missing -= taken
    if missing:
        raise MoreThanPaid(f"The payment is {missing} {payment.currency} short of that.")


def _require_open(session: Session, payment: Payment, parts: Sequence[Part]) -> None:
    named = {part.invoice_id for part in parts if part.invoice_id is not None}
    found = {one.invoice_id: one for one in receivables.standings(session, invoice_ids=named)} if named else {}
    for part in parts:
        if part.invoice_id is None:
            continue
        standing = found.get(part.invoice_id)
        if standing is None:
            raise NotFound(f"there is no final invoice {ids.to_wire(ids.INVOICE, part.invoice_id)}")
        if (standing.currency, standing.legal_entity_id) != (payment.currency, payment.legal_entity_id):
            raise InvalidRequest(
                f"{standing.number} is in {standing.currency}, of {standing.legal_entity_id}; the payment is in"
                f" {payment.currency}, to {payment.legal_entity_id}. Nothing is converted: return the money."
            )
        if part.amount > standing.open:
            raise MoreThanPaid(
                f"Only {max(standing.open, Decimal(0))} {standing.currency} of {standing.number} is open."
            )


def _write(session: Session, payment: Payment, row: _Row, by: str, why: str, now: datetime) -> None:
    match_id = ids.uuid7()
    seller = session.get_one(LegalEntity, payment.legal_entity_id)
    today = now.astimezone(clock.zone(seller.time_zone)).date()
    posting = payment_postings.match(
        match_id, counter=_counter(session, payment, row), tenant_id=row.tenant_id, subject=_subject(payment, row),
        booked=Booked(today, by, why),
    )  # fmt: skip
    values = {
        "id": match_id, "payment_id": payment.id, "target": row.target, "tenant_id": row.tenant_id,
        "invoice_id": row.invoice_id, "lot_id": row.lot_id, "amount": row.amount, "reverses_id": row.reverses_id,
        "matched_by": by, "reason": why, "booked_on": today, "transaction_id": booking.post(session, posting),
    }  # fmt: skip
    session.execute(insert(PaymentMatch).values(**values))


def _counter(session: Session, payment: Payment, row: _Row) -> tuple[Entry, ...]:
    books = (payment.legal_entity_id, payment.currency)
    match row.target:
        case "invoice":
            return (Entry(account_of("receivable", *books, row.tenant_id), -row.amount),)
        case "unapplied":
            return (Entry(account_of("unapplied", *books, row.tenant_id), -row.amount),)
        case "outside":
            return (Entry(account_of("outside", *books, None), -row.amount),)
        case "credit":
            assert row.lot_id is not None
            lot = credit_lots.lot(session, row.lot_id)
            from_lot = max(row.amount, -lot.remaining)  # of a top-up that is returned only what nobody has used
            owed = Entry(account_of("unapplied", *books, row.tenant_id), from_lot - row.amount)
            return tuple(one for one in (Entry(lot.account, -from_lot), owed) if one.amount)


def _subject(payment: Payment, row: _Row) -> str:
    if row.invoice_id is not None:
        return ids.to_wire(ids.INVOICE, row.invoice_id)
    if row.lot_id is not None:
        return ids.to_wire(ids.CREDIT, row.lot_id)
    return ids.to_wire(ids.PAYMENT, payment.id)


_TAKEN_FIRST = ("unapplied", "credit", "invoice", "outside")

_LIVE = text("""
    select m.id, m.target, m.tenant_id, m.invoice_id, m.lot_id, m.amount + coalesce(sum(r.amount), 0) as amount
    from payment_matches m left join payment_matches r on r.reverses_id = m.id
    where m.payment_id = :payment_id and m.reverses_id is null
    group by m.id
    having m.amount + coalesce(sum(r.amount), 0) <> 0
    order by m.id desc
""")
