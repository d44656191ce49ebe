"""Rating: tokens and a price in, an exact amount out. Pure: no clock, no database.

Rounding lives in `invoice.py`, tax in `tax.py`. A price has six decimals per 1,000,000 tokens, so an amount has at most
twelve: it is always exact, and a result that is not raises instead of being rounded.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation

# Stored with each rated line. Changes whenever the same tokens and price could give another amount.
CODE_VERSION = "rating-1"

PICO = Decimal("1e-12")
_EXACT = Context(prec=38, traps=[Inexact, InvalidOperation])

UNIT_NAMES = {
    "prompt": "prompt tokens",
    "cached_prompt": "cached prompt tokens",
    "completion": "completion tokens",
    "embedding": "embedding tokens",
    "batch_prompt": "batch prompt tokens",
    "batch_cached_prompt": "batch cached prompt tokens",
    "batch_completion": "batch completion tokens",
    "batch_embedding": "batch embedding tokens",
    "reused": "tokens of reused answers",
    "training": "tokens of training",
    "storage": "kilobyte-days of storage",
    "gpu_hour": "millionths of a GPU hour",
}
# Units of invoice lines that no tokens stand behind.
ADJUSTMENT_NAMES = {
    "minimum_commitment": "minimum commitment",
    "quote_limit": "above the limit of a quote",
}
LINE_NAMES = UNIT_NAMES | ADJUSTMENT_NAMES


def rate(tokens: int, per_million: Decimal) -> Decimal:
    """tokens x price / 1,000,000, with twelve decimals; decimal.Inexact when the price has more than six."""
    return _EXACT.quantize(_EXACT.multiply(Decimal(tokens), per_million).scaleb(-6, _EXACT), PICO)


def exact_sum(amounts: list[Decimal]) -> Decimal:
    """The sum of exact amounts, itself exact."""
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def explain(tokens: int, unit: str, per_million: Decimal, currency: str) -> str:
    """How an amount came about: "12,500 prompt tokens x 0.25 EUR / 1,000,000"."""
    return f"{tokens:,} {UNIT_NAMES[unit]} x {price_text(per_million)} {currency} / 1,000,000"


def price_text(per_million: Decimal) -> str:
    """A price as the price list prints it: at least two decimals, no empty ones after that."""
    whole, _, fraction = f"{per_million:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
