"""Who may call the operators' routes, and the unit of work that they run in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from fastapi import Depends
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from serving.keys import KeyRecord, require
from serving.routes import caller
from studio.db.sessions import engine_for, unit_of_work
from studio.settings import settings


@dataclass(frozen=True, slots=True)
class Operator:
    """The caller of an operators' route: named in the audit log and on approvals."""

    actor: str  # the key's findable prefix


def authenticate(record: Annotated[KeyRecord, Depends(caller.authenticate)]) -> Operator:
    """The operator behind the request's key; 401 without a key, 403 for one without the scope."""
    return Operator(require(record, "admin").prefix)


def transaction() -> Iterator[Session]:
    """One transaction of the role `operator`, committed before the answer leaves."""
    with unit_of_work(_engine()) as session:
        yield session


@cache
def _engine() -> Engine:
    return engine_for(settings().database_url("operator"))


Caller = Annotated[Operator, Depends(authenticate)]
# scope="function": the commit happens before the response, so a failed commit is an error and not a lie.
Transaction = Annotated[Session, Depends(transaction, scope="function")]
