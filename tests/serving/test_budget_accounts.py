"""The arithmetic of budgets: what may be spent bounds what is spent, and months end where the tenant lives."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budgets.account import Budget, cost, demand, reuse
from serving.budgets.book import Reservation
from serving.fleet.view import Price
from serving.tokens.usage import TokenCounts
from studio import ids
from studio.errors import InsufficientQuota

MONEY = st.decimals(Decimal(0), Decimal(1000), places=6)
UNITS = ("prompt", "cached_prompt", "completion")


def prices(*amounts: Decimal) -> list[Price]:
    return [Price("m", unit, "EUR", amount) for unit, amount in zip(UNITS, amounts, strict=True)]


@given(st.tuples(MONEY, MONEY, MONEY), MONEY, st.integers(0, 5000), st.integers(1, 5), st.integers(1, 5000), st.data())
def test_what_is_affordable_is_never_exceeded(
    amounts: tuple[Decimal, Decimal, Decimal],
    money: Decimal,
    bound: int,
    choices: int,
    max_tokens: int,
    data: st.DataObject,
) -> None:
    asked = demand(prices(*amounts), "EUR", bound, choices, max_tokens)
    affordable = asked.affordable(money)
    assert 0 <= affordable <= max_tokens
    assert (affordable == max_tokens) == (money >= asked.full)
    if affordable:
        prompt = data.draw(st.integers(0, bound))
        cached = data.draw(st.integers(0, prompt))
        completion = data.draw(st.integers(0, affordable * choices))
        assert cost(asked.prices, TokenCounts(prompt, cached, completion, 0, prompt)) <= money


def test_a_model_without_a_price_in_the_budgets_currency_is_refused() -> None:
    with pytest.raises(InsufficientQuota, match="no CNY price of prompt and cached_prompt and completion"):
        demand(prices(Decimal(1), Decimal(1), Decimal(1)), "CNY", 10, 1, 10)


def test_an_embedding_writes_nothing_and_costs_its_prompt() -> None:
    asked = demand([Price("m", "embedding", "EUR", Decimal(2))], "EUR", 1_000_000, 1, None)
    assert asked.full == asked.least == Decimal(2)
    assert (asked.affordable(Decimal("1.99")), asked.affordable(Decimal(2))) == (0, 1)


def test_what_is_reused_costs_its_own_price_and_demands_no_more() -> None:
    sold = [*prices(Decimal(8), Decimal(4), Decimal(16)), Price("m", "reused", "EUR", Decimal(1))]
    whole = TokenCounts(600_000, 0, 400_000, 0, 0, reused_prompt=600_000, reused_completion=400_000)
    asked = reuse(sold, "EUR", whole.reused)
    assert asked.full == asked.least == cost(asked.prices, whole) == Decimal(1)
    partly = TokenCounts(1_000_000, 500_000, 0, 0, 750_000, reused_prompt=250_000)
    assert cost(asked.prices, partly) == Decimal(2) + Decimal(2) + Decimal("0.25")
    with pytest.raises(InsufficientQuota, match="no CNY price of cached answers"):
        reuse(sold, "CNY", 1)


def test_what_an_engine_wrote_beyond_what_was_set_aside_is_not_billed() -> None:
    """Of batches and whole answers, where nothing can be stopped on its way."""
    beyond = TokenCounts(prompt=7, cached=3, completion=5000, reasoning=4000, engine_prompt=14)
    billed = Reservation((), max_tokens=100, choices=2, is_short=False).bounded(beyond)
    assert billed == TokenCounts(prompt=7, cached=3, completion=200, reasoning=200, engine_prompt=14)
    assert Reservation((), max_tokens=2500, choices=2, is_short=True).bounded(beyond) is beyond
    assert Reservation((), max_tokens=None, choices=1, is_short=False).bounded(beyond) is beyond  # writes nothing


@pytest.mark.parametrize(
    ("kind", "zone", "at", "period"),
    [
        ("monthly", "Europe/Berlin", datetime(2026, 10, 31, 22, 59, tzinfo=UTC), date(2026, 10, 1)),
        ("monthly", "Europe/Berlin", datetime(2026, 10, 31, 23, 0, tzinfo=UTC), date(2026, 11, 1)),
        ("monthly", "Asia/Shanghai", datetime(2026, 10, 31, 16, 0, tzinfo=UTC), date(2026, 11, 1)),
        ("prepaid", "Asia/Shanghai", datetime(2027, 1, 1, tzinfo=UTC), date(2026, 5, 6)),
    ],
)
def test_a_period_begins_in_the_tenants_zone(
    kind: Literal["prepaid", "monthly"], zone: str, at: datetime, period: date
) -> None:
    created_at = datetime(2026, 5, 6, 12, tzinfo=UTC)
    budget = Budget(ids.uuid7(), ids.uuid7(), None, kind, "EUR", Decimal(1), created_at, zone)
    assert budget.period(at) == period
