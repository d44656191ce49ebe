"""One source's part of one budget, and what a request asks of it. Pure: no clock, no I/O, and never a float.

A source of usage is a gateway or a worker of batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_DOWN, Decimal
from typing import Literal
from uuid import UUID

import msgspec

from serving.fleet.view import Price
from serving.tokens.usage import TokenCounts
from studio import clock
from studio.budgets import named, way_out
from studio.errors import InsufficientQuota

PER = Decimal(1_000_000)  # tokens to a price


@dataclass(frozen=True, slots=True)
class Budget:
    """A row of `budgets`."""

    id: UUID
    tenant_id: UUID
    api_key_id: UUID | None  # None: of the whole tenant
    kind: Literal["prepaid", "monthly"]
    currency: str
    amount: Decimal
    created_at: datetime
    time_zone: str

    def period(self, at: datetime) -> date:
        """The period that an instant belongs to, as `budget_accounts` names it."""
        if self.kind == "prepaid":
            return self.created_at.date()
        return at.astimezone(clock.zone(self.time_zone)).date().replace(day=1)

    def exhausted(self, available: Decimal, needed: Decimal) -> InsufficientQuota:
        """The refusal of a request for whose prompt not even enough is left."""
        code = {"prepaid": "credit_balance_exhausted", "monthly": "organization_spend_limit_exceeded"}[self.kind]
        if self.api_key_id:
            code = code.replace("organization_", "project_")
        of_key = self.api_key_id is not None
        return InsufficientQuota(
            f"The {named(self.kind, of_key=of_key)} is used up: {_shown(max(available, Decimal(0)))} of"
            f" {_shown(self.amount)} {self.currency} is left here, and this request may cost {_shown(needed)}"
            f" {self.currency} for its prompt alone. To go on, {way_out(self.kind, of_key=of_key)}.",
            code=code,
        )


@dataclass(slots=True)
class Account:
    """What this source holds of a budget in one period."""

    budget: Budget
    period: date
    held: Decimal = field(default=Decimal(0))  # drawn from the database
    spent: Decimal = field(default=Decimal(0))
    reserved: Decimal = field(default=Decimal(0))

    @property
    def available(self) -> Decimal:
        """Neither spent nor promised."""
        return self.held - self.spent - self.reserved


class Demand(msgspec.Struct, frozen=True):
    """The most that a request can cost in one currency."""

    prices: Mapping[str, Decimal]  # by unit, for a million tokens
    prompt: Decimal
    per_token: Decimal  # of each further token in every choice
    max_tokens: int | None  # for each choice; None where no tokens are written

    @property
    def full(self) -> Decimal:
        """For all that was asked."""
        return self.prompt + self.per_token * (self.max_tokens or 0)

    @property
    def least(self) -> Decimal:
        """Below this nothing can be answered."""
        return self.prompt + (self.per_token if self.max_tokens else 0)

    def affordable(self, money: Decimal) -> int:
        """Tokens for each choice, 0 when not even the least is there; 1 where no tokens are written."""
        if money < self.least:
            return 0
        if self.max_tokens is None:
            return 1
        if money >= self.full:
            return self.max_tokens
        return min(self.max_tokens, int(((money - self.prompt) / self.per_token).to_integral_value(ROUND_DOWN)))


def demand(
    prices: Sequence[Price],
    currency: str,
    prompt_tokens: int,
    choices: int,
    max_tokens: int | None,
    *,
    batch: bool = False,
) -> Demand:
    """The demand of a request whose prompt has at most `prompt_tokens`; a line of a `batch` has prices of its own.
    InsufficientQuota where a price is missing: what cannot be priced cannot be limited."""
    kind = "batch_" if batch else ""
    of_unit = {
        price.unit.removeprefix("batch_"): price.per_million
        for price in prices
        if price.currency == currency and price.unit.startswith("batch_") == batch
    }
    wanted = ("embedding",) if max_tokens is None else ("prompt", "cached_prompt", "completion")
    if missing := [kind + unit for unit in wanted if unit not in of_unit]:
        raise InsufficientQuota(
            f"This model has no {currency} price of {' and '.join(missing)}, so it cannot be used within a budget."
            " Use another model, or a key without a budget."
        )
    prompt = prompt_tokens * max(of_unit[unit] for unit in wanted if unit != "completion") / PER
    per_token = Decimal(0) if max_tokens is None else of_unit["completion"] * choices / PER
    return Demand(of_unit, prompt, per_token, max_tokens)


def reuse(prices: Sequence[Price], currency: str, tokens: int) -> Demand:
    """The demand of an answer that a cache gives, which is its cost. InsufficientQuota without a price."""
    of_unit = {price.unit: price.per_million for price in prices if price.currency == currency}
    if "reused" not in of_unit:
        raise InsufficientQuota(
            f"This model has no {currency} price of cached answers, so none can be given within a budget. Leave out the"
            " header `x-studio-cache`."
        )
    return Demand(of_unit, tokens * of_unit["reused"] / PER, Decimal(0), None)


def cost(prices: Mapping[str, Decimal], counts: TokenCounts) -> Decimal:
    """What tokens cost, exact."""
    reused = counts.reused * prices["reused"] if counts.reused else Decimal(0)
    if "embedding" in prices:
        return ((counts.prompt - counts.reused_prompt) * prices["embedding"] + reused) / PER
    return (
        (counts.prompt - counts.reused_prompt - counts.cached) * prices["prompt"]
        + counts.cached * prices["cached_prompt"]
        + (counts.completion - counts.reused_completion) * prices["completion"]
        + reused
    ) / PER


def _shown(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
