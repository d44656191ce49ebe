"""Volume tiers and adjustments: the same sum in whatever order usage arrives, and however many invoices it takes."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from itertools import accumulate
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import adjustments, tiers
from billing.invoice import Composed, RatedTokens, Volume, compose
from billing.tiers import Tier
from studio.errors import InvalidRequest
from studio.money import Currency, RoundingMode

PRICE, RATE = uuid4(), Decimal("0.19")
STEPS = (Tier(0, Decimal("0.02")), Tier(1_000, Decimal("0.015")), Tier(5_000, Decimal("0.01")))
money = st.decimals("0.01", 500, places=2)
usages = st.lists(st.integers(1, 4_000), min_size=1, max_size=12)


def rated(tokens: int, basis: str = "") -> RatedTokens:
    return RatedTokens(uuid4(), "chat", "prompt", PRICE, STEPS[0].per_million, tokens, basis)


def invoiced(parts: list[int], taken: dict[int, int] | None = None) -> Composed:
    return compose(
        [rated(part) for part in parts],
        Currency.EUR,
        RATE,
        {PRICE: Volume(STEPS, taken or {})},
        rounding=RoundingMode.HALF_UP,
    )


def by_tier(composed: Composed) -> Counter[int]:
    return Counter({line.tier_from_tokens: line.tokens for line in composed.lines})


@given(usages, st.randoms())
def test_seals_in_any_order_give_the_same_invoice(parts: list[int], random: object) -> None:
    shuffled = sorted(parts, key=lambda _: random.random())  # type: ignore[attr-defined]
    whole, sealed = invoiced([sum(parts)]), invoiced(shuffled)
    assert by_tier(sealed) == by_tier(whole)
    assert (sealed.net, sealed.tax, sealed.gross) == (whole.net, whole.tax, whole.gross)
    assert sum(by_tier(whole).values()) == sum(parts)


@given(st.lists(usages, min_size=1, max_size=5))
def test_several_invoices_of_a_month_come_to_what_one_would(parts: list[list[int]]) -> None:
    taken: Counter[int] = Counter()
    exact = Decimal(0)
    for part in parts:
        composed = invoiced(part, dict(taken))
        exact += sum(line.exact for line in composed.lines)
        taken += by_tier(composed)
    whole = invoiced([sum(map(sum, parts))])
    assert taken == by_tier(whole)
    assert exact == sum(line.exact for line in whole.lines)


def test_each_tier_is_a_line_that_says_so_and_holds_its_rated_lines_once() -> None:
    usage = [rated(6_000), rated(500)]
    lines = compose(usage, Currency.EUR, RATE, {PRICE: Volume(STEPS, {0: 400})}, rounding=RoundingMode.HALF_UP).lines
    assert [(line.tokens, line.per_million, line.explanation) for line in lines] == [
        (600, Decimal("0.02"), "600 prompt tokens x 0.02 EUR / 1,000,000"),
        (4_000, Decimal("0.015"), "4,000 prompt tokens x 0.015 EUR / 1,000,000 (above 1,000 tokens of the month)"),
        (1_900, Decimal("0.01"), "1,900 prompt tokens x 0.01 EUR / 1,000,000 (above 5,000 tokens of the month)"),
    ]
    held = [id for line in lines for id in line.rated_line_ids]
    assert sorted(held) == sorted(one.rated_line_id for one in usage)


def test_what_a_quote_priced_is_not_counted_in_tiers() -> None:
    lines = compose(
        [rated(6_000, "qte_1")], Currency.EUR, RATE, {PRICE: Volume(STEPS, {})}, rounding=RoundingMode.HALF_UP
    ).lines
    assert [(line.tokens, line.explanation) for line in lines] == [
        (6_000, "6,000 prompt tokens x 0.02 EUR / 1,000,000 (quote qte_1)")
    ]


@pytest.mark.parametrize("upper", [Tier(1_000, Decimal("0.02")), Tier(0, Decimal("0.01"))])
def test_a_tier_begins_later_and_costs_less(upper: Tier) -> None:
    with pytest.raises(InvalidRequest):
        tiers.require_falling(Decimal("0.02"), [upper])


@given(money, st.lists(money, min_size=1, max_size=6))
def test_a_month_comes_to_its_commitment_or_its_usage_whichever_is_more(
    committed: Decimal, used: list[Decimal]
) -> None:
    adjusted = Decimal(0)
    for own, total in zip(used, accumulate(used), strict=True):  # the first invoice of the month, then late usage
        change = adjustments.shortfall(committed, total, adjusted)
        adjusted += change
        assert own + change >= 0
        assert total + adjusted == max(committed, total)


@given(money, st.lists(st.tuples(money, st.booleans()), min_size=1, max_size=8))
def test_late_usage_after_re_ratings_leaves_a_month_at_its_commitment_or_its_usage(
    committed: Decimal, steps: list[tuple[Decimal, bool]]
) -> None:
    """A step adds usage, or rates all of the month anew; what the minimum lacks follows both in the same way."""
    usage = adjusted = Decimal(0)
    for amount, is_re_rating in steps:
        usage = amount if is_re_rating else usage + amount
        adjusted += adjustments.shortfall(committed, usage, adjusted)
        assert usage + adjusted == max(committed, usage)
        assert adjusted >= 0


@given(money, st.lists(money, min_size=1, max_size=6))
def test_a_quoted_batch_never_comes_to_more_than_its_limit(limit: Decimal, used: list[Decimal]) -> None:
    adjusted = Decimal(0)
    for own, total in zip(used, accumulate(used), strict=True):
        change = adjustments.above_limit(limit, total, adjusted)
        adjusted += change
        assert own + change >= 0
        assert total + adjusted == min(limit, total)
