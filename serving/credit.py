"""Keys with a credit of their own: what they may still spend, exact in one gateway.

What a key has spent before this process knew it is read once from the database; from then on the account is kept here:
reserved before a request, settled with the truth after it. The affordable tokens are sent to the engine as its limit,
so an answer ends where the money does. Keys without a credit never come here.

Known limits: each gateway keeps an account of its own, so N gateways may together spend up to N times the rest; and
usage of a killed gateway that was not yet shipped when its successor started is missing from the first reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from uuid import UUID

from psycopg import AsyncConnection

from serving.fleet.view import Price
from serving.tokens.usage import TokenCounts
from studio.errors import InsufficientQuota

PER = Decimal(1_000_000)


@dataclass(slots=True)
class Account:
    """One key's money, in its tenant's currency."""

    currency: str
    credit: Decimal
    spent: Decimal
    reserved: Decimal = field(default=Decimal(0))

    @property
    def available(self) -> Decimal:
        """Neither spent nor promised."""
        return self.credit - self.spent - self.reserved


@dataclass(slots=True)
class Reservation:
    """Money set aside for one request, and the tokens that it affords per choice (None: as many as asked for).

    Settled once, before the last byte leaves, so that the caller's next request finds the account as it is.
    """

    account: Account
    prices: Mapping[str, Decimal]
    amount: Decimal
    max_tokens: int | None
    choices: int
    is_short: bool  # whether it affords less than was asked for

    def ended(self, counts: TokenCounts) -> bool:
        """Whether the money, and not the caller's own limit, is what ended the answer."""
        return self.is_short and counts.completion >= (self.max_tokens or 0) * self.choices

    def settle(self, counts: TokenCounts) -> None:
        """Pay what was used and give back the rest."""
        self.account.spent += cost(self.prices, counts)
        self.release()

    def release(self) -> None:
        """Give back what is still set aside."""
        self.account.reserved -= self.amount
        self.amount = Decimal(0)


class Credits:
    """The accounts of every key that has a credit."""

    channel = "studio_keys"
    poll_interval = timedelta(seconds=30)

    def __init__(self) -> None:
        self._accounts: dict[UUID, Account] = {}

    async def refresh(self, connection: AsyncConnection) -> None:
        """Open accounts for keys that are new here; an open one is never read again, or usage would count twice."""
        known = list(self._accounts)
        cursor = await connection.execute(
            "select api_key_id, currency, credit, spent from key_spending(%s::uuid[])", (known,)
        )
        async for api_key_id, currency, credit, spent in cursor:
            self._accounts.setdefault(api_key_id, Account(currency, credit, spent))

    def reserve(
        self, api_key_id: UUID, prices: Sequence[Price], prompt_tokens: int, choices: int, max_tokens: int | None
    ) -> Reservation | None:
        """Set aside the most that a request can cost. None for a key without a credit, InsufficientQuota without money.

        `prompt_tokens` is an upper bound, `max_tokens` the caller's own limit per choice; None for an endpoint that
        writes no tokens.
        """
        account = self._accounts.get(api_key_id)
        if account is None:
            return None
        of_unit = {price.unit: price.per_million for price in prices if price.currency == account.currency}
        wanted = ("embedding",) if max_tokens is None else ("prompt", "cached_prompt", "completion")
        if missing := [unit for unit in wanted if unit not in of_unit]:
            raise InsufficientQuota(
                f"This model has no {account.currency} price of {' and '.join(missing)}, so a key with a credit cannot"
                " use it. Use a key without one."
            )
        prompt_bound = prompt_tokens * max(of_unit[unit] for unit in wanted if unit != "completion") / PER
        left = account.available - prompt_bound
        affordable = max_tokens
        completion_bound = Decimal(0)
        if max_tokens is not None:
            per_token = of_unit["completion"] * choices / PER
            if per_token > 0:
                affordable = min(max_tokens, int((left / per_token).to_integral_value(ROUND_DOWN)))
            completion_bound = per_token * max(affordable or 0, 0)
        if left < 0 or (affordable is not None and affordable < 1):
            raise InsufficientQuota(
                f"The credit of this API key is used up: {account.available:f} of {account.credit:f} {account.currency}"
                f" is left, and this request may cost {prompt_bound:f} {account.currency} for its prompt alone. Use"
                " another key, or ask your operator for one with more credit.",
                code="credit_balance_exhausted",
            )
        amount = prompt_bound + completion_bound
        account.reserved += amount
        is_short = affordable is not None and max_tokens is not None and affordable < max_tokens
        return Reservation(account, of_unit, amount, affordable, choices, is_short)


def cost(prices: Mapping[str, Decimal], counts: TokenCounts) -> Decimal:
    """What tokens cost, exact."""
    if "embedding" in prices:
        return counts.prompt * prices["embedding"] / PER
    return (
        (counts.prompt - counts.cached) * prices["prompt"]
        + counts.cached * prices["cached_prompt"]
        + counts.completion * prices["completion"]
    ) / PER
