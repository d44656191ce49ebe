"""Stripe's webhook, as documented at docs.stripe.com/webhooks: signature, tolerance, and two kinds of event. Pure.

The header `Stripe-Signature` holds `t=<seconds>,v1=<hex>`, with more than one `v1` while a secret is being replaced. A
signature is HMAC-SHA256 of `<t>.<body>` under the endpoint's secret. Amounts are in the smallest unit: cents, and fen.
What money is for stands in the payment intent's metadata as `reference`, else in its description.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from billing.payment_providers import Received, Refunded, SignatureInvalid
from studio.errors import InvalidRequest
from studio.money import Currency

HEADER = "stripe-signature"
TOLERANCE = timedelta(minutes=5)  # Stripe's own libraries' default

_MinorUnits = Annotated[int, Field(ge=0, lt=10**17)]
_Seconds = Annotated[int, Field(ge=0, lt=2**33)]


class _Event(BaseModel):
    type: str
    created: _Seconds
    data: dict[str, object]


class _PaymentIntent(BaseModel):
    id: Annotated[str, Field(min_length=1, max_length=255)]
    amount_received: Annotated[_MinorUnits, Field(gt=0)]
    currency: str
    description: str | None = None
    metadata: dict[str, str] = {}


class _Charge(BaseModel):
    payment_intent: Annotated[str, Field(min_length=1, max_length=255)]
    amount_refunded: _MinorUnits
    currency: str


class Stripe:
    """One endpoint with its secret (`whsec_...`)."""

    name: Literal["stripe"] = "stripe"

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Received | Refunded | None:
        """What a message says; None for events of other kinds. SignatureInvalid, InvalidRequest."""
        self._verify(headers.get(HEADER, ""), body, now)
        try:
            event = _Event.model_validate_json(body)
            at = datetime.fromtimestamp(event.created, UTC)
            if event.type == "payment_intent.succeeded":
                intent = _PaymentIntent.model_validate(event.data.get("object"))
                text = intent.metadata.get("reference") or intent.description or ""
                return Received(
                    intent.id, _amount(intent.amount_received), _currency(intent.currency), text[:2_000], at
                )
            if event.type == "charge.refunded":
                charge = _Charge.model_validate(event.data.get("object"))
                total = _amount(charge.amount_refunded)
                return Refunded(charge.payment_intent, total, _currency(charge.currency), at)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(f"The event is not as Stripe documents it: {first['msg']} in `{field}`.") from error
        return None

    def _verify(self, header: str, body: bytes, now: datetime) -> None:
        items = [item.partition("=") for item in header.split(",")]
        stamps = [value for name, _, value in items if name.strip() == "t"]
        signatures = [value for name, _, value in items if name.strip() == "v1"]
        if len(stamps) != 1 or not signatures or not (stamps[0].isascii() and stamps[0].isdigit()):
            raise SignatureInvalid("The header Stripe-Signature is missing, or is not `t=...,v1=...`.")
        expected = hmac.new(self._secret, stamps[0].encode() + b"." + body, hashlib.sha256).hexdigest()
        # All are compared, whatever comes first: the time taken says nothing.
        matching = [hmac.compare_digest(expected.encode(), one.encode()) for one in signatures]
        if not any(matching):
            raise SignatureInvalid("No signature fits: is STUDIO_STRIPE_WEBHOOK_SECRET the secret of this endpoint?")
        # After the signature, so that only Stripe learns what our clock says.
        if abs(now.timestamp() - int(stamps[0])) > TOLERANCE.total_seconds():
            raise SignatureInvalid(
                f"The message is more than {TOLERANCE.total_seconds():.0f} s old, or our clock is off."
            )


def _amount(minor_units: int) -> Decimal:
    """Both currencies that we take have two decimals."""
    return (Decimal(minor_units) / 100).quantize(Decimal("0.01"))


def _currency(code: str) -> Currency:
    try:
        return Currency.parse(code.upper())
    except ValueError as error:
        raise InvalidRequest(f"{error}. Take payments in EUR or CNY only.") from error
