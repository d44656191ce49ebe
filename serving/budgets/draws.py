"""Money between a gateway and the budgets in the database. Threads: nothing here may block the event loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from serving.budgets.account import Account
from studio.db.sessions import unit_of_work
from studio.errors import ServiceUnavailable

PATIENCE = timedelta(seconds=5)
RETRY = timedelta(seconds=2)

log = structlog.get_logger()


class BudgetUnknown(ServiceUnavailable):
    """The database cannot be asked, and what this gateway holds is not enough. A budget never fails open."""

    def __init__(self) -> None:
        super().__init__("Your budget cannot be checked at the moment, so nothing was started.", retry_after=RETRY)


class Draws:
    """Draws and returns for one source of usage."""

    def __init__(self, database: Engine, source_id: UUID) -> None:
        self._database = database
        self._source_id = source_id
        self._late: set[asyncio.Task[None]] = set()

    async def draw(self, account: Account, needed: Decimal) -> Decimal:
        """Up to `needed`, or more while there is plenty, added to what the account holds. BudgetUnknown."""
        drawing = asyncio.create_task(self._hold(account, needed))
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                return await asyncio.shield(drawing)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("budget_unknown", budget=str(account.budget.id), error=type(error).__name__)
            if not drawing.done():
                # What comes too late for who waited is nobody's, and goes back.
                late = asyncio.create_task(self._return_late(account, drawing))
                self._late.add(late)
                late.add_done_callback(self._late.discard)
            raise BudgetUnknown from error

    async def give_back(self, account: Account, unused: Decimal) -> None:
        """Return what is not needed."""
        account.held -= unused  # first, so that nobody spends it meanwhile
        try:
            await asyncio.to_thread(self._give_back, account, unused)
        except SQLAlchemyError as error:
            # Perhaps returned, perhaps not: never taken back, since it must not be spent twice.
            log.warning("budget_not_returned", budget=str(account.budget.id), error=type(error).__name__)

    async def _hold(self, account: Account, needed: Decimal) -> Decimal:
        granted: Decimal = await asyncio.to_thread(self._draw, account, needed)
        account.held += granted
        return granted

    async def _return_late(self, account: Account, drawing: asyncio.Task[Decimal]) -> None:
        with suppress(SQLAlchemyError):
            granted = await drawing
            # Somebody may have found it there in the meantime.
            if (unused := min(granted, account.available)) > 0:
                await self.give_back(account, unused)

    def _draw(self, account: Account, needed: Decimal) -> Decimal:
        with unit_of_work(self._database) as session:
            granted: Decimal = session.execute(_DRAW, self._of(account) | {"needed": needed}).scalar_one()
        return granted

    def _give_back(self, account: Account, unused: Decimal) -> None:
        with unit_of_work(self._database) as session:
            session.execute(_RETURN, self._of(account) | {"unused": unused})

    def _of(self, account: Account) -> dict[str, object]:
        return {"budget": account.budget.id, "period": account.period, "source": self._source_id}


_DRAW = text("select granted from draw_budget(:budget, :period, :source, :needed)")
_RETURN = text("select return_to_budget(:budget, :period, :source, :unused)")
