"""Composing an invoice: rated tokens in, lines and totals out. Pure: no database, no clock.

The only rounding of the whole chain is here, once per line; tax is on the sum of the rounded lines. Usage of a price
row with volume tiers becomes one line per tier (`tiers.py`); after the usage stand the adjustments (`adjustments.py`).
Which usage goes into an invoice is `draft.py`; numbers and finality are `finalize.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from types import MappingProxyType
from uuid import UUID

from billing import rating, tax, tiers
from billing.tiers import Tier
from studio.money import Currency, Money, RoundingMode

MISSED_TARGET = "missed_target"
EXPLAINED = {MISSED_TARGET: "at the base price: the first token came after its published target"}
_ONE = 1_000_000  # an adjustment is one piece: its amount is a price for so many


@dataclass(frozen=True, slots=True)
class RatedTokens:
    """One rated line on its way into an invoice."""

    rated_line_id: UUID
    variant_id: str
    unit: str
    price_id: UUID
    per_million: Decimal
    tokens: int
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """The tiers of a price row, from 0 on, and what other invoices of the month hold of each, by its `from_tokens`."""

    tiers: tuple[Tier, ...]
    taken: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """An amount that no tokens stand behind, net; below zero when the customer gets it back."""

    unit: str
    variant_id: str | None
    basis: str
    amount: Decimal
    explanation: str


@dataclass(frozen=True, slots=True)
class Line:
    """One product, unit, price and tier; or an adjustment, which has no price row."""

    line_no: int
    variant_id: str | None
    unit: str
    price_id: UUID | None
    basis: str
    tier_from_tokens: int
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


def no_adjustments(usage: Sequence[Line]) -> Sequence[Adjustment]:
    """For an invoice of usage alone."""
    return ()


def compose(
    rated: Sequence[RatedTokens],
    currency: Currency,
    tax_rate: Decimal,
    volumes: Mapping[UUID, Volume] = MappingProxyType({}),
    adjust: Callable[[Sequence[Line]], Sequence[Adjustment]] = no_adjustments,
    *,
    rounding: RoundingMode,
) -> Composed:
    """Sum the tokens of each product, unit, price and tier, multiply once, round once; then `adjust` those lines.

    `rounding`: as the price list names it (`rounding.py`). `volumes`: of the price rows that have tiers. What a quote
    or a missed target priced stays out of their count.
    """
    groups = groupby(sorted(rated, key=_product), key=_product)
    usage = [line for _, group in groups for line in _lines(list(group), currency, volumes, rounding)]
    unnumbered = (*usage, *(_adjusting(one) for one in adjust(usage) if one.amount))
    lines = tuple(replace(line, line_no=line_no) for line_no, line in enumerate(unnumbered, start=1))
    net = Money(sum((line.amount for line in lines), Decimal("0.00")), currency)
    tax_amount = tax.tax_on(net, tax_rate, rounding)
    return Composed(lines, tax_rate, net, tax_amount, net + tax_amount)


def _product(rated: RatedTokens) -> tuple[str, int, UUID, str]:
    return rated.variant_id, list(rating.UNIT_NAMES).index(rated.unit), rated.price_id, rated.basis


def _lines(
    group: Sequence[RatedTokens], currency: Currency, volumes: Mapping[UUID, Volume], rounding: RoundingMode
) -> list[Line]:
    first = group[0]
    tokens = sum(rated.tokens for rated in group)
    volume = volumes.get(first.price_id) if first.basis == "" else None
    plain = Tier(0, first.per_million)
    slices = [tiers.Slice(plain, tokens)] if volume is None else tiers.fill(volume.tiers, volume.taken, tokens)
    held = tuple(sorted(rated.rated_line_id for rated in group))  # by the first of the lines that they became
    return [_line(first, one, currency, rounding, held if one is slices[0] else ()) for one in slices]


def _line(
    first: RatedTokens, part: tiers.Slice, currency: Currency, rounding: RoundingMode, held: tuple[UUID, ...]
) -> Line:
    per_million = part.tier.per_million
    exact = rating.rate(part.tokens, per_million)
    why = f" ({EXPLAINED.get(first.basis, f'quote {first.basis}')})" if first.basis else ""
    if part.tier.from_tokens:
        why = f" (above {part.tier.from_tokens:,} tokens of the month)"
    return Line(
        line_no=0,
        variant_id=first.variant_id,
        unit=first.unit,
        price_id=first.price_id,
        basis=first.basis,
        tier_from_tokens=part.tier.from_tokens,
        tokens=part.tokens,
        per_million=per_million,
        exact=exact,
        amount=Money(exact, currency).rounded(rounding).amount,
        explanation=rating.explain(part.tokens, first.unit, per_million, currency) + why,
        rated_line_ids=held,
    )


def _adjusting(adjustment: Adjustment) -> Line:
    tokens = _ONE if adjustment.amount > 0 else -_ONE
    return Line(
        line_no=0,
        variant_id=adjustment.variant_id,
        unit=adjustment.unit,
        price_id=None,
        basis=adjustment.basis,
        tier_from_tokens=0,
        tokens=tokens,
        per_million=abs(adjustment.amount),
        exact=rating.rate(tokens, abs(adjustment.amount)),
        amount=adjustment.amount,
        explanation=adjustment.explanation,
        rated_line_ids=(),
    )
