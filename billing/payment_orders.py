"""What finance records by hand: money that came in past the bank's files, refunds, and payouts. Each is recorded once.

Refunds and payouts are booked here; the bank's own entry of them is left out of imports, so the same money is not
booked twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import any_, literal, select
from sqlalchemy.orm import Session

from billing import payments, receivables
from billing.bank_statement import account_number
from billing.payment_lookup import decision_for
from billing.payment_matching import Part
from billing.payments import NewPayment
from studio import clock, ids
from studio.db.payments import Payment
from studio.db.tenancy import LegalEntity
from studio.errors import InvalidRequest, NotFound
from studio.money import CENT, Currency


@dataclass(frozen=True, slots=True)
class Order:
    """What all of them name. `key`: the same order is carried out once, whoever sends it again."""

    key: str
    account: str
    booked_on: date
    by: str
    reason: str


def record(
    session: Session, order: Order, amount: Decimal, currency: Currency, payer: str | None, text: str, now: datetime
) -> Payment:
    """Money that came in, matched if its text says what it is for; the payment of an earlier order with this key."""
    payments.take_turns(session)
    seller = owner(session, order.account)
    new = NewPayment(
        legal_entity_id=seller.id, currency=currency, amount=_positive(amount), account=account_number(order.account),
        source="manual", entry_key=f"manual:{order.key}", booked_on=order.booked_on, payer=payer, remittance=text,
    )  # fmt: skip
    payment = payments.record(session, new, order.by)
    if payment is None:
        return _recorded(session, new)
    decision = decision_for(session, payment, today(seller, now))
    if decision.parts:
        payments.match(session, payment, decision.parts, order.by, decision.why, now)
    return payment


def refund(session: Session, order: Order, payment_id: UUID, amount: Decimal, now: datetime) -> Payment:
    """Money that we sent back of a payment; refused above what is left of it."""
    payments.take_turns(session)
    original = payments.find(session, payment_id)
    payments.hold_credit(session, original)
    outgoing = _outgoing(order, original.legal_entity_id, original.currency, amount)
    payment = payments.record(session, outgoing, order.by)
    if payment is None:
        return _recorded(session, outgoing)
    payments.take_back(session, payment, original, order.by, order.reason, now)
    return payment


def pay_out(session: Session, order: Order, invoice_id: UUID, amount: Decimal, now: datetime) -> Payment:
    """Money that we sent because corrections or credit made an invoice negative; refused above that."""
    payments.take_turns(session)
    standing = receivables.standing(session, invoice_id)
    if standing is None:
        raise NotFound(f"there is no final invoice {ids.to_wire(ids.INVOICE, invoice_id)}")
    outgoing = _outgoing(order, standing.legal_entity_id, standing.currency, amount)
    payment = payments.record(session, outgoing, order.by)
    if payment is None:
        return _recorded(session, outgoing)
    payments.pay_out(session, payment, invoice_id, order.by, order.reason, now)
    return payment


def assign(
    session: Session,
    payment_id: UUID,
    *,
    amounts: dict[UUID, Decimal | None],
    rest_to: UUID | None,
    is_top_up: bool,
    by: str,
    reason: str,
    now: datetime,
) -> Payment:
    """A person says what incoming money is for: invoices (None: what is open, as far as it reaches), the rest a tenant.

    Without `rest_to` what is left of it goes on waiting.
    """
    payments.take_turns(session)
    payment = payments.find(session, payment_id)
    if payment.amount < 0:
        raise InvalidRequest("This money went out: say with `returns` which payment it takes back.")
    lying = [live for live in payments.live_matches(session, payment) if live.target == "unapplied"]
    waiting = payments.unmatched(session, payment)
    left = waiting + sum((live.amount for live in lying), Decimal(0))
    parts: list[Part] = []
    named = receivables.standings(session, invoice_ids=amounts.keys())
    for standing in sorted(named, key=lambda one: (one.due_on, one.number)):
        amount = amounts[standing.invoice_id]
        amount = max(min(left, standing.open), Decimal(0)) if amount is None else amount
        if amount:
            parts.append(Part("invoice", standing.tenant_id, amount, standing.invoice_id))
            left -= amount
    _require_known(amounts, parts)
    waiting -= sum((part.amount for part in parts), Decimal(0))
    if rest_to is not None and waiting > 0:
        parts.append(Part("credit" if is_top_up else "unapplied", rest_to, waiting))
    if not parts:
        raise InvalidRequest(
            "Nothing would be matched: of the payment nothing is left, or of the invoices nothing open."
        )
    payments.match(session, payment, parts, by, reason, now)
    return payment


def returns(session: Session, outgoing_id: UUID, original_id: UUID, by: str, reason: str, now: datetime) -> Payment:
    """A person says which payment the bank took back."""
    payments.take_turns(session)
    outgoing, original = payments.find(session, outgoing_id), payments.find(session, original_id)
    if outgoing.amount > 0 or not payments.unmatched(session, outgoing):
        raise InvalidRequest("Only money that the bank took back, and of which nobody said why, takes a payment back.")
    payments.hold_credit(session, original)
    payments.take_back(session, outgoing, original, by, reason, now)
    return outgoing


def owner(session: Session, account: str) -> LegalEntity:
    """Whose bank account it is; InvalidRequest when it is nobody's here."""
    query = select(LegalEntity).where(literal(account_number(account)) == any_(LegalEntity.bank_accounts))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise InvalidRequest(
            f"The account {account} belongs to no legal entity: see `bank_accounts` in catalog/legal_entities.yaml.",
            param="account",
        )
    return found


def today(seller: LegalEntity, now: datetime) -> date:
    """The civil day of a legal entity."""
    return now.astimezone(clock.zone(seller.time_zone)).date()


def _outgoing(order: Order, legal_entity_id: str, currency: str, amount: Decimal) -> NewPayment:
    return NewPayment(
        legal_entity_id=legal_entity_id, currency=currency, amount=-_positive(amount),
        account=account_number(order.account), source="manual", entry_key=f"manual:{order.key}",
        booked_on=order.booked_on, remittance=order.reason,
    )  # fmt: skip


def _recorded(session: Session, new: NewPayment) -> Payment:
    return session.scalars(select(Payment).where(Payment.entry_key == new.entry_key)).one()


def _positive(amount: Decimal) -> Decimal:
    if amount <= 0 or amount != amount.quantize(CENT):
        raise InvalidRequest(f"{amount} is no amount: use more than zero, with two decimals.", param="amount")
    return amount


def _require_known(amounts: dict[UUID, Decimal | None], parts: Sequence[Part]) -> None:
    known = {part.invoice_id for part in parts}
    for invoice_id, amount in amounts.items():
        if invoice_id not in known and amount is not None:
            raise NotFound(f"there is no final invoice {ids.to_wire(ids.INVOICE, invoice_id)}")
