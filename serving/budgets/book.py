"""The accounts of one source of usage, a gateway or a worker of batches: which budgets a request meets, and money set
aside for it in all of them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from serving.budgets.account import Account, Budget, Demand, cost, demand, reuse
from serving.budgets.draws import Draws
from serving.fleet.view import Price
from serving.tokens.usage import TokenCounts
from studio.errors import InsufficientQuota

# An answer of this many tokens is worth beginning when the money for more is not there at the moment.
DECENT_ANSWER = 512
# A request waits this long for what running ones give back, before it makes do with less or is refused.
PATIENCE = timedelta(seconds=5)
DRY = timedelta(milliseconds=500)  # how long an empty budget is not asked again
TICK = timedelta(milliseconds=200)
IDLE = timedelta(seconds=1)  # after which what is not needed goes back for others to spend


@dataclass(slots=True)
class _Purse:
    """An account and who waits for it."""

    account: Account
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)
    drawing: asyncio.Task[Decimal] | None = None
    claims: int = 0  # requests that are being decided
    dry_until: float = 0.0  # of the loop's clock
    used_at: float = 0.0

    @property
    def key(self) -> tuple[UUID, date]:
        """By which it is kept."""
        return self.account.budget.id, self.account.period

    @property
    def is_drawing(self) -> bool:
        """Whether the database is being asked. Waiting for a task that is done would not yield to the loop."""
        return self.drawing is not None and not self.drawing.done()

    def wake_one(self) -> None:
        """Money came back. The one that takes it wakes the next."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class _Claim(msgspec.Struct, frozen=True):
    purse: _Purse
    demand: Demand

    @property
    def affordable(self) -> int:
        return self.demand.affordable(self.purse.account.available)


@dataclass(slots=True)
class Reservation:
    """Money set aside for one request, and the tokens that it affords per choice (None: no tokens are written).

    Settled once, before the last byte leaves, so that the caller's next request finds the account as it is.
    """

    parts: tuple[tuple[_Purse, Demand, Decimal], ...]
    max_tokens: int | None
    choices: int
    is_short: bool  # whether it affords less than was asked for

    def ended(self, counts: TokenCounts) -> bool:
        """Whether the money, and not the caller's own limit, is what ended the answer."""
        return self.is_short and counts.completion >= (self.max_tokens or 0) * self.choices

    def bounded(self, counts: TokenCounts) -> TokenCounts:
        """What may be billed of `counts`: as many tokens as were set aside. An engine that wrote more did so against
        its limit, and its caller's money is not there for it."""
        most = counts.completion if self.max_tokens is None else self.max_tokens * self.choices
        if counts.completion <= most:
            return counts
        return msgspec.structs.replace(counts, completion=most, reasoning=min(counts.reasoning, most))

    def settle(self, counts: TokenCounts) -> None:
        """Pay what was used and give back the rest."""
        for purse, asked, _ in self.parts:
            purse.account.spent += cost(asked.prices, counts)
        self.release()

    def release(self) -> None:
        """Give back what is still set aside."""
        parts, self.parts = self.parts, ()
        for purse, _, amount in parts:
            purse.account.reserved -= amount
            purse.used_at = asyncio.get_running_loop().time()
            purse.wake_one()


class Budgets:
    """Every budget that holds, and this source's part of those that it met."""

    channel = "studio_keys"  # that of the keys: nobody may meet a key before its budget
    poll_interval = timedelta(seconds=30)

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._of_tenant: dict[UUID, tuple[Budget, ...]] = {}
        self._of_key: dict[UUID, tuple[Budget, ...]] = {}
        self._purses: dict[tuple[UUID, date], _Purse] = {}
        self._changed: set[tuple[UUID, date]] = set()  # whose part is to be drawn anew

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read all again. A budget that was changed is drawn anew, so that its new amount holds at once."""
        async with connection.cursor(row_factory=class_row(Budget)) as cursor:
            await cursor.execute(
                "select id, tenant_id, api_key_id, kind, currency, amount, created_at, time_zone from budget_snapshot()"
            )
            budgets = await cursor.fetchall()
        of_tenant: dict[UUID, list[Budget]] = defaultdict(list)
        of_key: dict[UUID, list[Budget]] = defaultdict(list)
        for budget in budgets:
            if budget.api_key_id is None:
                of_tenant[budget.tenant_id].append(budget)
            else:
                of_key[budget.api_key_id].append(budget)
        known = {budget.id: budget for budget in budgets}
        for purse in self._purses.values():
            current = known.get(purse.account.budget.id)
            if current != purse.account.budget:
                purse.account.budget = current or purse.account.budget
                purse.dry_until = 0.0
                # `tidy` gives it back: whoever reads snapshots, keys among them, must not wait for a row of money.
                self._changed.add(purse.key)
        self._of_tenant = {id: tuple(found) for id, found in of_tenant.items()}
        self._of_key = {id: tuple(found) for id, found in of_key.items()}

    async def reserve(
        self,
        tenant_id: UUID,
        api_key_id: UUID,
        at: datetime,
        prices: Sequence[Price],
        prompt_tokens: int,
        choices: int,
        max_tokens: int | None,
        *,
        batch: bool = False,
    ) -> Reservation | None:
        """Set aside the most that a request can cost, in every budget that it meets; None where it meets none.

        `prompt_tokens` is an upper bound, `max_tokens` the caller's own limit per choice; None for an endpoint that
        writes no tokens. InsufficientQuota without money, BudgetUnknown when that cannot be known.
        """
        claims = [
            _Claim(
                self._purse(budget, at),
                demand(prices, budget.currency, prompt_tokens, choices, max_tokens, batch=batch),
            )
            for budget in self._met_by(tenant_id, api_key_id)
        ]
        return await self._reserve(claims, choices, max_tokens)

    async def reserve_reuse(
        self, tenant_id: UUID, api_key_id: UUID, at: datetime, prices: Sequence[Price], tokens: int
    ) -> Reservation | None:
        """The same for an answer of so many tokens that a cache gives."""
        claims = [
            _Claim(self._purse(budget, at), reuse(prices, budget.currency, tokens))
            for budget in self._met_by(tenant_id, api_key_id)
        ]
        return await self._reserve(claims, 1, None)

    def _met_by(self, tenant_id: UUID, api_key_id: UUID) -> tuple[Budget, ...]:
        return self._of_key.get(api_key_id, ()) + self._of_tenant.get(tenant_id, ())

    async def _reserve(self, claims: Sequence[_Claim], choices: int, max_tokens: int | None) -> Reservation | None:
        if not claims:
            return None
        for claim in claims:
            claim.purse.claims += 1
        try:
            return await self._claim(claims, choices, max_tokens)
        finally:
            for claim in claims:
                claim.purse.claims -= 1

    async def tidy(self) -> None:
        """For ever: return what is not needed any more."""
        while True:
            await asyncio.sleep(TICK.total_seconds())
            idle_since = asyncio.get_running_loop().time() - IDLE.total_seconds()
            for key, purse in list(self._purses.items()):
                if key in self._changed:
                    self._changed.discard(key)
                    await self._give_back(purse)
                    purse.wake_one()
                if purse.claims or purse.used_at > idle_since or purse.account.reserved or purse.is_drawing:
                    continue
                # Dropped as well: what it has spent is in the database, as a part of what was drawn and not returned.
                del self._purses[key]
                await self._give_back(purse)

    async def _claim(self, claims: Sequence[_Claim], choices: int, max_tokens: int | None) -> Reservation:
        loop = asyncio.get_running_loop()
        wanted = 1 if max_tokens is None else max_tokens
        decent = min(wanted, DECENT_ANSWER)
        give_up_at = loop.time() + PATIENCE.total_seconds()
        while True:
            affordable = min(claim.affordable for claim in claims)
            if affordable >= wanted:
                return _take(claims, affordable, choices, max_tokens)
            short = [claim for claim in claims if claim.affordable < wanted]
            if any([await self._draw(claim) for claim in short]):
                continue
            # Nothing more is to be had of the database: what is here, and what running requests give back, is all.
            affordable = min(claim.affordable for claim in claims)
            waits_for = next((claim.purse for claim in short if claim.purse.account.reserved), None)
            if affordable >= decent or (affordable and waits_for is None):
                return _take(claims, affordable, choices, max_tokens)
            if waits_for is None or not await _changed(waits_for, give_up_at - loop.time()):
                if affordable:
                    return _take(claims, affordable, choices, max_tokens)
                raise _refusal(claims)

    async def _draw(self, claim: _Claim) -> bool:
        """Whether the account may hold more than before."""
        purse, now = claim.purse, asyncio.get_running_loop().time()
        if not purse.is_drawing:
            if now < purse.dry_until:
                return False
            needed = claim.demand.full - purse.account.available
            if needed <= 0:
                return True
            purse.drawing = drawing = asyncio.create_task(self._draws.draw(purse.account, needed))
            # A caller that leaves must not end what others wait for.
            granted = await asyncio.shield(drawing)
            if granted < needed:
                purse.dry_until = asyncio.get_running_loop().time() + DRY.total_seconds()
            return granted > 0
        assert purse.drawing is not None
        await asyncio.shield(purse.drawing)
        return True

    async def _give_back(self, purse: _Purse) -> None:
        unused = purse.account.available
        if unused > 0:
            await self._draws.give_back(purse.account, unused)

    def _purse(self, budget: Budget, at: datetime) -> _Purse:
        key = (budget.id, budget.period(at))
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = _Purse(Account(budget, key[1]))
        purse.used_at = asyncio.get_running_loop().time()
        return purse


def _take(claims: Sequence[_Claim], affordable: int, choices: int, max_tokens: int | None) -> Reservation:
    parts = []
    for claim in claims:
        amount = claim.demand.prompt + claim.demand.per_token * (0 if max_tokens is None else affordable)
        claim.purse.account.reserved += amount
        parts.append((claim.purse, claim.demand, amount))
        if claim.purse.account.available > 0:
            claim.purse.wake_one()  # there may be enough for the next as well
    limit = None if max_tokens is None else affordable
    return Reservation(tuple(parts), limit, choices, limit is not None and limit < (max_tokens or 0))


def _refusal(claims: Sequence[_Claim]) -> InsufficientQuota:
    claim = min(claims, key=lambda claim: claim.affordable)
    account = claim.purse.account
    return account.budget.exhausted(account.available, claim.demand.prompt)


async def _changed(purse: _Purse, patience: float) -> bool:
    """Wait for money to come back; False when none did in time."""
    waiter = asyncio.get_running_loop().create_future()
    purse.waiters.append(waiter)
    try:
        async with asyncio.timeout(patience):
            await waiter
    except TimeoutError:
        return waiter.done() and not waiter.cancelled()
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            purse.wake_one()  # it was this one's turn, and it is not there any more
        raise
    return True
