"""Composing an invoice: rated tokens in, lines and totals out. Pure: no database, no clock.

The only rounding of the whole chain is here, once per line; tax is on the sum of the rounded lines. Which usage goes
into an invoice is `draft.py`; numbers and finality are `finalize.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from uuid import UUID

from billing import rating, tax
from studio.money import Currency, Money, RoundingMode

ROUNDING = RoundingMode.HALF_UP  # what German accountants and recipients recompute


@dataclass(frozen=True, slots=True)
class RatedTokens:
    """One rated line on its way into an invoice."""

    rated_line_id: UUID
    variant_id: str
    unit: str
    price_id: UUID
    per_million: Decimal
    tokens: int


@dataclass(frozen=True, slots=True)
class Line:
    """One product, unit and price."""

    line_no: int
    variant_id: str
    unit: str
    price_id: UUID
    tokens: int
    per_million: Decimal
    exact: Decimal
    amount: Decimal
    explanation: str
    rated_line_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Composed:
    """The figures of an invoice; `gross` is `net + tax`, and `net` the sum of the lines' amounts."""

    lines: tuple[Line, ...]
    tax_rate: Decimal
    net: Money
    tax: Money
    gross: Money


def compose(rated: Sequence[RatedTokens], currency: Currency, tax_rate: Decimal) -> Composed:
    """Sum the tokens of each product, unit and price, multiply once, round once."""
    groups = groupby(sorted(rated, key=_product), key=_product)
    lines = tuple(_line(line_no, list(group), currency) for line_no, (_, group) in enumerate(groups, start=1))
    net = Money(sum((line.amount for line in lines), Decimal("0.00")), currency)
    tax_amount = tax.tax_on(net, tax_rate, ROUNDING)
    return Composed(lines, tax_rate, net, tax_amount, net + tax_amount)


def _product(rated: RatedTokens) -> tuple[str, int, UUID]:
    return rated.variant_id, list(rating.UNIT_NAMES).index(rated.unit), rated.price_id


def _line(line_no: int, group: Sequence[RatedTokens], currency: Currency) -> Line:
    first = group[0]
    tokens = sum(rated.tokens for rated in group)
    exact = rating.rate(tokens, first.per_million)
    return Line(
        line_no=line_no,
        variant_id=first.variant_id,
        unit=first.unit,
        price_id=first.price_id,
        tokens=tokens,
        per_million=first.per_million,
        exact=exact,
        amount=Money(exact, currency).rounded(ROUNDING).amount,
        explanation=rating.explain(tokens, first.unit, first.per_million, currency),
        rated_line_ids=tuple(sorted(rated.rated_line_id for rated in group)),
    )
