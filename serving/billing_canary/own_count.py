"""What the canary counts: from answers and published prices alone. Pure, and shares nothing with `billing/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

CURRENCY = "EUR"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model that is asked, and its published prices per 1,000,000 tokens, by unit."""

    model: str
    prices: Mapping[str, str]


def cheapest_warm(models: Sequence[Mapping[str, Any]]) -> Chosen | None:
    """Of what `/v1/models` lists: the warm chat model whose prompt and answer cost least; None when nothing is warm."""
    warm = [
        Chosen(model["id"], model["prices_per_million_tokens"][CURRENCY])
        for model in models
        if (model["task"], model["state"]) == ("chat", "warm") and CURRENCY in model["prices_per_million_tokens"]
    ]
    return min(warm, key=lambda one: Fraction(one.prices["prompt"]) + Fraction(one.prices["completion"]), default=None)


def own_bill(usages: Sequence[Mapping[str, Any]], prices: Mapping[str, str]) -> Fraction:
    """What the answers' own `usage` comes to, as an exact fraction."""
    total = Fraction(0)
    for usage in usages:
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        total += (usage["prompt_tokens"] - cached) * Fraction(prices["prompt"])
        total += cached * Fraction(prices.get("cached_prompt", "0"))
        total += usage["completion_tokens"] * Fraction(prices["completion"])
    return total / 1_000_000
