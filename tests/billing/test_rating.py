"""Rating and composing: exact, whatever the split; rounded once."""

from __future__ import annotations

from decimal import Decimal, Inexact
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import rating
from billing.invoice import RatedTokens, compose
from studio.money import Currency, RoundingMode

PRICES = st.decimals(min_value=0, max_value=10_000, places=6)
TOKENS = st.integers(min_value=0, max_value=10**12)
PRICE_ID = uuid4()


@given(st.lists(TOKENS, min_size=1, max_size=20), PRICES)
def test_rating_any_split_of_a_day_equals_rating_the_day(split: list[int], per_million: Decimal) -> None:
    assert rating.exact_sum([rating.rate(part, per_million) for part in split]) == rating.rate(sum(split), per_million)


def test_a_price_that_cannot_be_exact_is_refused() -> None:
    with pytest.raises(Inexact):
        rating.rate(1, Decimal("0.0000001"))


def test_the_explanation_says_how_the_amount_came_about() -> None:
    assert rating.rate(12_500, Decimal("0.250000")) == Decimal("0.003125")
    words = rating.explain(12_500, "prompt", Decimal("0.250000"), "EUR")
    assert words == "12,500 prompt tokens x 0.25 EUR / 1,000,000"
    assert rating.price_text(Decimal("0.037500")) == "0.0375"
    assert rating.price_text(Decimal("3.000000")) == "3.00"


@given(st.lists(TOKENS, min_size=1, max_size=10), PRICES, st.sampled_from(RoundingMode))
def test_an_invoice_line_is_rounded_once_however_its_usage_was_split(
    split: list[int], per_million: Decimal, mode: RoundingMode
) -> None:
    whole = compose([_rated(sum(split), per_million)], Currency.EUR, Decimal("0.19"), rounding=mode)
    parts = compose([_rated(part, per_million) for part in split], Currency.EUR, Decimal("0.19"), rounding=mode)
    assert parts.lines[0].amount == whole.lines[0].amount
    assert (parts.net, parts.tax, parts.gross) == (whole.net, whole.tax, whole.gross)
    assert abs(parts.lines[0].exact - parts.lines[0].amount) <= Decimal("0.005")


def test_half_a_cent_rounds_up_and_tax_is_on_the_sum_of_rounded_lines() -> None:
    half_cent = _rated(5_000, Decimal("1.000000"))
    other = RatedTokens(uuid4(), "model", "completion", PRICE_ID, Decimal("1.000000"), 5_000)
    composed = compose([half_cent, other], Currency.EUR, Decimal("0.19"), rounding=RoundingMode.HALF_UP)
    assert [line.amount for line in composed.lines] == [Decimal("0.01"), Decimal("0.01")]
    assert (str(composed.net), str(composed.tax), str(composed.gross)) == ("0.02 EUR", "0.00 EUR", "0.02 EUR")


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=8), st.sampled_from(["0.5", "1", "2.5"]))
def test_the_two_modes_differ_only_at_ties_and_there_by_a_cent(parts: list[int], price: str) -> None:
    # Every amount is a multiple of a tenth of a cent or so: ties are common.
    usage = [
        RatedTokens(uuid4(), f"m{n}", "prompt", PRICE_ID, Decimal(price), 500 * part) for n, part in enumerate(parts)
    ]
    up, even = (compose(usage, Currency.EUR, Decimal(0), rounding=mode).lines for mode in RoundingMode)
    for one, other in zip(up, even, strict=True):
        is_tie = one.exact % Decimal("0.01") == Decimal("0.005")
        assert one.exact == other.exact
        if not is_tie:
            assert one.amount == other.amount
        else:
            assert one.amount == one.exact + Decimal("0.005")
            assert other.amount * 100 % 2 == 0
            assert abs(other.amount - other.exact) == Decimal("0.005")


def _rated(tokens: int, per_million: Decimal) -> RatedTokens:
    return RatedTokens(uuid4(), "model", "prompt", UUID(PRICE_ID.hex), per_million, tokens)
