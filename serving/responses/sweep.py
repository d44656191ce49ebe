"""The sweep of responses: what is kept long enough goes, and what a dead gateway ran has failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from serving.responses.store import RUNNING
from studio.db.responses import StoredResponse

SILENCE = timedelta(minutes=1)  # a gateway says every second what it runs
AT_ONCE = 10_000  # each minute: more than a gateway writes


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows."""

    expired: int
    failed: int


def sweep(session: Session, now: datetime) -> Swept:
    """Delete what has expired, at most AT_ONCE, and fail what nobody runs any more."""
    over = select(StoredResponse.id).where(StoredResponse.expires_at <= now).limit(AT_ONCE)
    expired = session.scalars(
        delete(StoredResponse).where(StoredResponse.id.in_(over)).returning(StoredResponse.id)
    ).all()
    # The database's own clock on both sides: gateways are compared with nothing else.
    failed = session.scalars(
        update(StoredResponse)
        .where(StoredResponse.status.in_(RUNNING), StoredResponse.heard_at < func.now() - SILENCE)
        .values(status="failed")
        .returning(StoredResponse.id)
    ).all()
    return Swept(len(expired), len(failed))
