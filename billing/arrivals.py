"""Arrivals: what usage has come in lately, and how long it was under way. Only looks; sealing is `windows.py`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Usage of the last 24 hours."""

    events: int
    tokens: int
    lag_seconds_max: float  # from the end of a request to its row
    newest_ingested_at: datetime | None
    unresolved_quarantine: int


def last_day(session: Session, now: datetime) -> Arrivals:
    """Usage that started in the 24 hours before `now`."""
    row = session.execute(_LAST_DAY, {"since": now - timedelta(days=1)}).one()
    return Arrivals(
        row.events, int(row.tokens), float(row.lag_seconds_max), row.newest_ingested_at, row.unresolved_quarantine
    )


_LAST_DAY = text("""
    select count(*) as events, coalesce(sum(prompt_tokens + completion_tokens), 0) as tokens,
           coalesce(max(extract(epoch from ingested_at - ended_at)), 0) as lag_seconds_max,
           max(ingested_at) as newest_ingested_at,
           (select count(*) from quarantine where resolved_at is null) as unresolved_quarantine
    from usage_events
    where usage_day_utc >= cast(:since as date) and started_at >= :since
""")
