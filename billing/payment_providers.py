"""Payment providers: a signed message in, what it says of money out. One real one: `stripe.py`.

A provider tells us of money, it does not move it for us. Its messages come more than once, late and in any order, so
what is booked hangs on what they say and never on how often they were said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from billing import payments
from billing.payment_lookup import decision_for
from billing.payments import NewPayment
from studio import clock
from studio.db.payments import Payment
from studio.db.tenancy import LegalEntity
from studio.errors import Conflict, InvalidRequest, StudioError
from studio.money import Currency


class SignatureInvalid(InvalidRequest):
    """The message is not from the provider, or is too old. Nothing of it was read."""

    default_code = "signature_invalid"


class PaymentUnknown(Conflict):
    """A refund of a payment that we have not been told of yet; the provider sends it again."""

    default_code = "payment_unknown"


@dataclass(frozen=True, slots=True)
class Received:
    """Money came in. `payment`: the provider's id of it; `text`: what says what it is for."""

    payment: str
    amount: Decimal
    currency: Currency
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Refunded:
    """Of a payment so much has gone back in all, this time included."""

    payment: str
    total: Decimal
    currency: Currency
    at: datetime


class PaymentProvider(Protocol):
    """What a provider has to offer."""

    name: Literal["stripe"]

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Received | Refunded | None:
        """What a message says; None when it is about something else. SignatureInvalid unless it is the provider's."""
        ...


def take(session: Session, name: Literal["stripe"], event: Received | Refunded, seller_id: str, now: datetime) -> bool:
    """Book what a provider has told; False when it was booked before. The account is the provider's name.

    PaymentUnknown for a refund that overtook its payment.
    """
    payments.take_turns(session)
    seller = session.get(LegalEntity, seller_id)
    if seller is None:
        raise StudioError(f"There is no legal entity {seller_id!r}: see STUDIO_{name.upper()}_LEGAL_ENTITY.")
    booked_on = event.at.astimezone(clock.zone(seller.time_zone)).date()
    if isinstance(event, Refunded):
        return _refund(session, name, event, seller.id, booked_on, now)
    new = NewPayment(
        legal_entity_id=seller.id, currency=event.currency, amount=event.amount, account=name, source=name,
        entry_key=f"{name}:{event.payment}", booked_on=booked_on, remittance=event.text,
    )  # fmt: skip
    payment = payments.record(session, new, name)
    if payment is None:
        return False
    decision = decision_for(session, payment, now.astimezone(clock.zone(seller.time_zone)).date())
    if decision.parts:
        payments.match(session, payment, decision.parts, name, decision.why, now)
    return True


def _refund(
    session: Session, name: Literal["stripe"], event: Refunded, seller_id: str, booked_on: date, now: datetime
) -> bool:
    original_key = f"{name}:{event.payment}"
    original = session.scalars(select(Payment).where(Payment.entry_key == original_key)).one_or_none()
    if original is None:
        raise PaymentUnknown(f"There is no payment {event.payment} yet. Send this again later.")
    before = select(func.coalesce(func.sum(-Payment.amount), 0)).where(
        Payment.entry_key.startswith(f"{original_key}:refunded:", autoescape=True)
    )
    more = event.total - session.scalars(before).one()
    if more <= 0:  # sent again, or overtaken by a later one that said more
        return False
    payments.hold_credit(session, original)
    new = NewPayment(
        legal_entity_id=seller_id, currency=event.currency, amount=-more, account=name, source=name,
        entry_key=f"{original_key}:refunded:{event.total}", booked_on=booked_on, is_return=True,
        remittance=original.remittance,
    )  # fmt: skip
    outgoing = payments.record(session, new, name)
    assert outgoing is not None, "its key holds the total, which has grown"
    payments.take_back(session, outgoing, original, name, f"refunded by {name}", now)
    return True
