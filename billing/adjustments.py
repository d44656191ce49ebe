"""Lines that no tokens stand behind: what a minimum commitment lacks, what is above the limit of a quote. Pure.

Both follow one rule: what the month should come to, less what its lines come to, less what earlier invoices adjusted
already. So late usage, a second invoice or a draft that is done again leads to the same sum.
"""

from __future__ import annotations

from decimal import Decimal

from studio.money import CENT, Currency

MINIMUM_COMMITMENT = "minimum_commitment"
QUOTE_LIMIT = "quote_limit"


def shortfall(committed: Decimal, used: Decimal, adjusted: Decimal) -> Decimal:
    """What is still to be billed, net, so that the month comes to `committed` at least; below zero for late usage.

    `used`: all lines of the month in all its invoices; `adjusted`: earlier lines of this kind.
    """
    return (max(committed - used, Decimal(0)) - adjusted).quantize(CENT)


def above_limit(max_cost: Decimal, billed: Decimal, adjusted: Decimal) -> Decimal:
    """What is given back, as a number of zero or less, so that what was quoted comes to `max_cost` at most.

    `billed`: all lines of it in all invoices, as printed; `adjusted`: earlier lines of this kind.
    """
    return (min(max_cost - billed, Decimal(0)) - adjusted).quantize(CENT)


def explain_shortfall(committed: Decimal, used: Decimal, currency: Currency) -> str:
    """In words."""
    return f"minimum commitment of {committed:,.2f} {currency} a month, less usage of {used:,.2f} {currency}"


def explain_limit(quote: str, max_cost: Decimal, billed: Decimal, currency: Currency) -> str:
    """In words."""
    return f"quote {quote} holds: {billed:,.2f} {currency} used, at most {max_cost:,.2f} {currency} billed"
