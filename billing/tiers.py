"""Volume tiers: graduated prices, counted for each price row over a tenant's month. Pure: no clock, no database.

Tokens of a month fill the tiers of their price row from the lowest on, whatever seal or invoice they come in. So the
order in which usage arrives changes nothing, and what an earlier invoice took of a tier is simply not there any more.
A new price row starts a new count, since its tiers are its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from studio.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Tier:
    """Above `from_tokens` of the month, 1,000,000 tokens cost `per_million`. The first tier begins at 0."""

    from_tokens: int
    per_million: Decimal


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens that fall into one tier."""

    tier: Tier
    tokens: int


def require_falling(first: Decimal, tiers: Sequence[Tier]) -> None:
    """InvalidRequest unless each tier begins later and costs less than the one before."""
    for lower, upper in pairwise((Tier(0, first), *tiers)):
        if upper.from_tokens <= lower.from_tokens:
            raise InvalidRequest(
                f"The tier from {upper.from_tokens:,} tokens does not begin after the one from"
                f" {lower.from_tokens:,}: name them from the smallest volume on.",
                param="tiers",
            )
        if upper.per_million >= lower.per_million:
            raise InvalidRequest(
                f"The tier from {upper.from_tokens:,} tokens costs {upper.per_million}, no less than the one before"
                f" it ({lower.per_million}): a tier is a lower price.",
                param="tiers",
            )


def fill(tiers: Sequence[Tier], taken: Mapping[int, int], tokens: int) -> list[Slice]:
    """`tokens` spread over the room that is left, lowest tier first.

    `tiers` begin with the one from 0 and rise. `taken`: tokens that other invoices of the month hold, by the
    `from_tokens` of their tier.
    """
    slices = []
    ends: list[int | None] = [upper.from_tokens for upper in tiers[1:]]
    for tier, end in zip(tiers, [*ends, None], strict=True):
        room = tokens if end is None else end - tier.from_tokens - taken.get(tier.from_tokens, 0)
        here = min(tokens, max(room, 0))
        if here:
            slices.append(Slice(tier, here))
            tokens -= here
    return slices
