"""Arrivals: what usage has come in lately, and how long it was under way. Only looks; sealing is `windows.py`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Source:
    """How complete one source of usage is that is open, or was a day ago."""

    name: str
    last_seq: int
    unproven: int  # shipped since it was last proven to have no gap, which each seal does
    pending: int  # not shipped yet, as it said itself
    silent_seconds: float  # since it was last heard of; 0 when it has ended in order


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Usage of the last 24 hours."""

    events: int
    tokens: int
    lag_seconds_max: float  # from the end of a request to its row
    newest_ingested_at: datetime | None
    unresolved_quarantine: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class EventAhead:
    """An event that claims to have started long from now. It is sealed when that day comes."""

    id: UUID
    tenant_id: UUID
    source: str
    started_at: datetime
    tokens: int


def ahead(session: Session, now: datetime, limit: int) -> list[EventAhead]:
    """Events that start more than a day after `now`: their gateway's clock was wrong. The furthest first."""
    rows = session.execute(_AHEAD, {"after": now + timedelta(days=1), "limit": limit}).mappings()
    return [EventAhead(**row) for row in rows]


def last_day(session: Session, now: datetime) -> Arrivals:
    """Usage that started in the 24 hours before `now`."""
    since = {"since": now - timedelta(days=1), "now": now}
    row = session.execute(_LAST_DAY, since).one()
    sources = tuple(Source(**found) for found in session.execute(_SOURCES, since).mappings())
    return Arrivals(
        row.events,
        int(row.tokens),
        float(row.lag_seconds_max),
        row.newest_ingested_at,
        row.unresolved_quarantine,
        sources,
    )


_LAST_DAY = text("""
    select count(*) as events, coalesce(sum(prompt_tokens) + sum(completion_tokens), 0) as tokens,
           coalesce(max(extract(epoch from ingested_at - ended_at)), 0) as lag_seconds_max,
           max(ingested_at) as newest_ingested_at,
           (select count(*) from quarantine where resolved_at is null) as unresolved_quarantine
    from usage_events
    where usage_day_utc >= cast(:since as date) and started_at >= :since
""")

# Days to come have no partition of their own, so this looks at hardly anything.
_AHEAD = text("""
    select e.id, e.tenant_id, coalesce(s.name, '') as source, e.started_at,
           e.prompt_tokens + e.completion_tokens as tokens
    from usage_events e left join usage_sources s on s.id = e.source_id
    where e.usage_day_utc >= cast(:after as date) and e.started_at > :after
    order by e.started_at desc limit :limit
""")

_SOURCES = text("""
    select name, last_seq, last_seq - least(proven_seq, last_seq) as unproven, pending,
           case when closed_at is null then greatest(extract(epoch from :now - heartbeat_at), 0)::float8 else 0 end
               as silent_seconds
    from usage_sources
    where kind = 'journal' and (closed_at is null or closed_at >= :since)
    order by silent_seconds desc, name
""")
