"""How long one question about usage may keep the database busy. Nobody waits longer, and no worker is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from psycopg.errors import QueryCanceled
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from studio.errors import InvalidRequest

PATIENCE = timedelta(seconds=20)  # every request of the time that is asked for may have to be looked at

_LIMIT = text("select set_config('statement_timeout', :patience, true)")


@contextmanager
def bounded(session: Session, what_next: str, param: str, patience: timedelta | None = None) -> Iterator[None]:
    """Each statement of this transaction ends in time: with its answer, or with an InvalidRequest that says `what_next`
    to ask for."""
    patience = PATIENCE if patience is None else patience
    session.execute(_LIMIT, {"patience": f"{patience // timedelta(milliseconds=1)}ms"})
    try:
        yield
    except OperationalError as error:
        if not isinstance(error.orig, QueryCanceled):
            raise
        raise InvalidRequest(
            f"That is too much usage to be looked at in {patience.total_seconds():g} s: {what_next}", param=param
        ) from error
