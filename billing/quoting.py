"""Quotes: the most that a batch can cost, from counted prompts, bounded answers and the prices of one instant, and what
a fine-tune costs, from the tokens of its examples. Pure.

The prices hold for what was quoted whatever happens to the price book afterwards (`usage.py` prices its events as at
that instant), and what its lines come to above the figure is given back on the invoice (`terms.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from billing import rating
from studio.errors import InvalidRequest
from studio.money import CENT

EMBEDDING_UNITS = ("batch_embedding",)
TRAINING_UNITS = ("training",)
ANSWER_UNITS = ("batch_prompt", "batch_cached_prompt", "batch_completion")


@dataclass(frozen=True, slots=True)
class LineBound:
    """One line of a batch file: the tokens of its prompt, and the most that all its answers can have."""

    prompt_tokens: int
    completion_tokens: int
    is_counted: bool  # by the model's tokenizer; else `prompt_tokens` is an upper bound


def units_of(task: str) -> tuple[str, ...]:
    """What a batch of such a model is billed by."""
    return EMBEDDING_UNITS if task == "embedding" else ANSWER_UNITS


def max_cost(lines: Sequence[LineBound], prices: Mapping[str, Decimal]) -> Decimal:
    """The most that they cost, net, in whole cents, rounded up. `prices`: per 1,000,000 tokens, by unit."""
    prompt_price = max(price for unit, price in prices.items() if unit != "batch_completion")
    prompt = rating.rate(sum(line.prompt_tokens for line in lines), prompt_price)
    completion = rating.rate(sum(line.completion_tokens for line in lines), prices.get("batch_completion", Decimal(0)))
    return rating.exact_sum([prompt, completion]).quantize(CENT, ROUND_CEILING)


def training_cost(tokens: int, prices: Mapping[str, Decimal]) -> Decimal:
    """What a fine-tune that reads so many tokens costs, net, in whole cents, rounded up."""
    return rating.rate(tokens, prices["training"]).quantize(CENT, ROUND_CEILING)


def require_prices(found: Mapping[str, Decimal | None], model: str) -> dict[str, Decimal]:
    """InvalidRequest where a price is missing: what cannot be priced cannot be promised."""
    if missing := [unit for unit, price in found.items() if price is None]:
        raise InvalidRequest(f"{model} has no price of {', '.join(missing)} now, so nothing can be quoted.")
    return {unit: price for unit, price in found.items() if price is not None}
