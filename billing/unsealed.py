"""Which windows have usage that is in no seal.

Every event is counted by day and source as it is accepted (`usage_arrivals`), and so is how many of them were found in
seals. Only days of which both counts differ are looked at, event by event; late usage, however old, makes them differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from billing import sources, windows
from studio import clock
from studio.db.usage import UsageArrival


@dataclass(frozen=True, slots=True)
class UnsealedWindow:
    """A window with events that no seal holds yet."""

    window_day: date
    tenant_id: UUID
    events: int


def of_all_days(session: Session) -> list[UnsealedWindow]:
    """The windows of customers with events in no seal, oldest first: also of days that are not over."""
    return [window for day in _days(session) for window in of_day(session, day)]


def of_closed_days(session: Session, now: datetime) -> list[UnsealedWindow]:
    """The same of days that may be sealed by now."""
    return [window for day in _days(session) if windows.closes_at(day) <= now for window in of_day(session, day)]


def of_day(session: Session, window_day: date) -> list[UnsealedWindow]:
    """The same of one day, by looking at all of its events."""
    start, end = clock.day_window(window_day, clock.BERLIN)
    rows = session.execute(_OF_DAY, {"window_day": window_day, "start": start, "end": end})
    return [UnsealedWindow(window_day, row.tenant_id, row.events) for row in rows]


def remember(session: Session, now: datetime) -> list[UnsealedWindow]:
    """As `of_closed_days`; days of which nothing is unsealed are not looked at again until more arrives.

    The counts are read before the events are: what arrives in between is looked at twice, never not at all.
    """
    found: list[UnsealedWindow] = []
    for day in _days(session):
        if windows.closes_at(day) > now:
            continue
        counts = session.execute(_COUNTS.where(UsageArrival.window_day == day)).tuples().all()
        unsealed = of_day(session, day)
        if not unsealed:
            sources, events = zip(*counts, strict=True)
            session.execute(_SEALED, {"window_day": day, "source_ids": list(sources), "events": list(events)})
        found += unsealed
    return found


@dataclass(frozen=True, slots=True)
class OverdueDay:
    """A closed day that cannot be sealed, what of it is known to wait, and why, a sentence for each source."""

    window_day: date
    tenants: int
    events: int
    sources: tuple[str, ...]


def overdue(session: Session, now: datetime) -> list[OverdueDay]:
    """Closed days that a source keeps open: those with usage in no seal, and yesterday also without.

    A silent gateway may hold usage of tenants of whom nothing has arrived, so yesterday's sources are always asked.
    """
    yesterday = (now - windows.GRACE).astimezone(clock.BERLIN).date() - timedelta(days=1)
    waiting: dict[date, list[UnsealedWindow]] = {yesterday: []}
    for window in of_closed_days(session, now):
        waiting.setdefault(window.window_day, []).append(window)
    found = []
    for day, unsealed in sorted(waiting.items()):
        late = sources.lagging(session, *clock.day_window(day, clock.BERLIN), windows.closes_at(day))
        if late:
            found.append(OverdueDay(day, len(unsealed), sum(window.events for window in unsealed), tuple(late)))
    return found


def _days(session: Session) -> list[date]:
    """The days of which not all events were found in seals."""
    return list(session.scalars(select(UsageArrival.window_day).where(_IS_OPEN).distinct().order_by("window_day")))


_IS_OPEN = UsageArrival.sealed_events < UsageArrival.events
_COUNTS = select(UsageArrival.source_id, UsageArrival.events).where(_IS_OPEN)

# The seals of one day are few ranges. Ours are never billed, so nobody seals their usage.
_OF_DAY = text("""
    with ranges as materialized (
        select w.tenant_id, r.source_id, r.from_seq, r.until_seq
        from usage_windows w
        cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
        where w.window_day = :window_day
    )
    select e.tenant_id, count(*) as events
    from usage_events e
    where e.started_at >= :start and e.started_at < :end
      and e.usage_day_utc between cast(:start as date) - 1 and cast(:end as date) + 1
      and not exists (select 1 from tenants t where t.id = e.tenant_id and t.is_internal)
      and not exists (
        select 1 from ranges r
        where r.tenant_id = e.tenant_id and r.source_id = e.source_id
          and e.source_seq >= r.from_seq and e.source_seq < r.until_seq)
    group by e.tenant_id
    order by e.tenant_id
""")

# Only up to the counts that were read: more may have arrived since.
_SEALED = text("""
    update usage_arrivals a set sealed_events = k.events
    from unnest(cast(:source_ids as uuid[]), cast(:events as bigint[])) as k (source_id, events)
    where a.window_day = :window_day and a.source_id = k.source_id and a.sealed_events < k.events
""")
