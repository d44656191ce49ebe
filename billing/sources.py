"""Sources of usage: whether each has shown everything up to an instant.

A source numbers its events without a gap and says how many it has still to ship. One that is silent may hold usage of
anybody, so a day is complete only when every source that was open on it has been heard of since.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session


def incomplete(source: Row[Any], cutoff: datetime) -> str | None:
    """Why a source may lack events from before `cutoff`, or None. Of the row: what `COLUMNS` selects."""
    if source.missing:
        return f"The source {source.name} lacks {source.missing} of its {source.last_seq} events."
    if source.is_journal and source.closed_at is None and source.heartbeat_at < cutoff:
        return (
            f"The source {source.name} was last heard of at {source.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC,"
            f" before {cutoff:%Y-%m-%d %H:%M:%S} UTC."
        )
    if source.closed_at is None and source.pending:
        return f"The source {source.name} has {source.pending} events still to ship."
    return None


def lagging(session: Session, start: datetime, end: datetime, cutoff: datetime) -> list[str]:
    """Why events that started from `start` to before `end` may be missing: a sentence for each source, by name."""
    rows = session.execute(_OPEN_BETWEEN, {"start": start, "end": end})
    return [why for row in rows if (why := incomplete(row, cutoff)) is not None]


# Numbers 1..last_seq must all be there, as events or in quarantine. What was proven is not looked at again.
COLUMNS = """
    s.id, s.name, s.kind = 'journal' as is_journal, s.last_seq, s.pending, s.heartbeat_at, s.closed_at,
    prove_source(s.id, s.last_seq) as missing
"""

_OPEN_BETWEEN = text(f"""
    select {COLUMNS}
    from usage_sources s
    where s.opened_at < :end and (s.closed_at is null or s.closed_at >= :start)
    order by s.name, s.id
""")  # noqa: S608 (columns of our own)
