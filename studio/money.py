"""Money: an exact Decimal with its currency. Rounding happens only in `rounded`, in the mode the caller names."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from enum import StrEnum


class Currency(StrEnum):
    """ISO 4217 allow-list."""

    EUR = "EUR"
    CNY = "CNY"

    @classmethod
    def parse(cls, text: str) -> Currency:
        """The currency `text` names; "RMB" and "CNH" are refused with the right word."""
        if text in ("RMB", "CNH"):
            raise ValueError(f"{text!r} is no ISO 4217 code for invoices: write CNY")
        try:
            return cls(text)
        except ValueError as error:
            raise ValueError(f"currency {text!r} is not supported: use {' or '.join(cls)}") from error


class RoundingMode(StrEnum):
    """How an invoice line is rounded; the price book names it."""

    HALF_UP = "half_up"  # kaufmaennisch, DIN 1333: away from zero
    HALF_EVEN = "half_even"


_DECIMAL_ROUNDING = {RoundingMode.HALF_UP: ROUND_HALF_UP, RoundingMode.HALF_EVEN: ROUND_HALF_EVEN}
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount. Adding two currencies is a programming error and raises."""

    amount: Decimal
    currency: Currency

    def __add__(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount + other.amount, self.currency)

    def rounded(self, mode: RoundingMode) -> Money:
        """To two decimals; both currencies of the allow-list have two."""
        return Money(self.amount.quantize(CENT, _DECIMAL_ROUNDING[mode]), self.currency)

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"
