"""Who may call the operators' routes, and the unit of work that they run in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from serving.identity.callers import Operator
from serving.identity.needs import Need
from serving.identity.permissions import Permission, roles_with
from serving.routes.caller import Parts, header_of
from studio import clock
from studio.db.sessions import engine_for, unit_of_work
from studio.errors import PermissionDenied
from studio.settings import settings


async def authenticate(request: Request, parts: Parts) -> Operator:
    """The caller, by key or by token, whatever it allows; 401 without."""
    return await parts.callers.operator(header_of(request), clock.now())


@dataclass(frozen=True)
class _OperatorWith:
    permission: Permission

    @property
    def need(self) -> Need:
        """For whoever lists what routes ask."""
        return Need(self.permission)

    async def __call__(self, operator: Annotated[Operator, Depends(authenticate)]) -> Operator:
        """The operator, having shown the permission; 403 without."""
        if self.permission not in operator.permissions:
            raise PermissionDenied(
                "This needs an API key with the scope `admin`, or one of the roles"
                f" {', '.join(roles_with([self.permission]))}."
            )
        return operator


def transaction() -> Iterator[Session]:
    """One transaction of the role `operator`, committed before the answer leaves."""
    with unit_of_work(_engine()) as session:
        yield session


@cache
def _engine() -> Engine:
    return engine_for(settings().database_url("operator"))


READ = Depends(_OperatorWith(Permission.READ))  # what every operators' route asks at least
OPERATE = Depends(_OperatorWith(Permission.OPERATE))
Caller = Annotated[Operator, OPERATE]
BillingCaller = Annotated[Operator, Depends(_OperatorWith(Permission.BILLING))]
# scope="function": the commit happens before the response, so a failed commit is an error and not a lie.
Transaction = Annotated[Session, Depends(transaction, scope="function")]
