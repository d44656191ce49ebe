"""GPU hours: cards that are reserved for one tenant, counted by its civil days and sold by the hour.

An hour is cards times time, whether they work or not: nobody else gets them meanwhile. Reservations are
`card_reservations.py`. Each day is counted once, when it is over in the tenant's zone, until the tenant is closed; card
time is exact, millionths of an hour are rounded down once a day. A day without exactly one price is held in quarantine,
as all usage is.

Not here: the time of replicas that all tenants of a model share, which is paid by tokens (`margin.py` has its cost).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from billing import day_metering
from billing.day_metering import LOOK_BACK_DAYS, DayUsage, Source
from studio import clock, gpu_usage
from studio.db.usage import GpuDay

_SOURCE = Source(gpu_usage.SOURCE_ID, "gpu hours", gpu_usage.ENDPOINT, gpu_usage.PRODUCT)


@dataclass(frozen=True, slots=True)
class DueDay:
    """A civil day that is over, on which a tenant had cards, and that is not counted yet."""

    tenant_id: UUID
    day: date
    time_zone: str


@dataclass(frozen=True, slots=True)
class CountedDay:
    """A row of `gpu_days`."""

    tenant_id: UUID
    day: date
    time_zone: str
    card_microseconds: int
    micro_hours: int
    event_id: UUID


@dataclass(frozen=True, slots=True)
class Uneven:
    """A counted day that its reservations, or its usage event, do not bear out."""

    tenant_id: UUID
    day: date
    counted: int
    counted_again: int
    billed: int | None  # None: no event


def due(session: Session, now: datetime, back: int = LOOK_BACK_DAYS) -> list[DueDay]:
    """Days that are over in their tenants' zones and not counted, so many days back; nothing of ours."""
    return [DueDay(*row) for row in session.execute(_DUE, {"now": now, "back": back}).tuples()]


def count(session: Session, day: date, now: datetime) -> list[CountedDay]:
    """Count a civil day for the tenants of whom it is due, and meter it. Again it finds nothing."""
    last_seq = day_metering.lock(session, _SOURCE, now)
    back = day_metering.look_back(day, now)
    counted = [row for one in due(session, now, back) if one.day == day and (row := _counted(session, one))]
    if counted:
        session.execute(insert(GpuDay), [asdict(row) for row in counted])
    day_metering.meter(
        session, _SOURCE, last_seq,
        [DayUsage(row.event_id, row.tenant_id, row.day, row.time_zone, row.micro_hours) for row in counted],
    )  # fmt: skip
    return counted


def counted_days(session: Session, day: date) -> list[CountedDay]:
    """What is counted of a civil day, the most first."""
    columns = [GpuDay.__table__.c[name] for name in CountedDay.__dataclass_fields__]
    rows = [CountedDay(**row) for row in session.execute(select(*columns).where(GpuDay.day == day)).mappings()]
    return sorted(rows, key=lambda row: (-row.micro_hours, row.tenant_id))


def uneven(session: Session, day: date) -> list[Uneven]:
    """Counted days whose reservations, or whose event, come to something else now."""
    billed: dict[UUID, int] = {row.tenant_id: row.prompt_tokens for row in session.execute(_BILLED, {"day": day})}
    found = []
    for row in counted_days(session, day):
        again = _card_microseconds(session, row.tenant_id, row.day, row.time_zone) // gpu_usage.CARD_MICROSECONDS
        if again != row.micro_hours or billed.get(row.tenant_id) != row.micro_hours:
            found.append(Uneven(row.tenant_id, row.day, row.micro_hours, again, billed.get(row.tenant_id)))
    return found


def hours(rows: Sequence[CountedDay]) -> float:
    """Their sum, for plots."""
    return sum(row.micro_hours for row in rows) / 1_000_000


def _counted(session: Session, one: DueDay) -> CountedDay | None:
    microseconds = _card_microseconds(session, one.tenant_id, one.day, one.time_zone)
    micro_hours = microseconds // gpu_usage.CARD_MICROSECONDS
    if not micro_hours:
        return None
    instant = day_metering.last_instant(one.day, one.time_zone)
    event_id = gpu_usage.event_id(one.tenant_id, one.day, instant)
    return CountedDay(one.tenant_id, one.day, one.time_zone, microseconds, micro_hours, event_id)


def _card_microseconds(session: Session, tenant_id: UUID, day: date, time_zone: str) -> int:
    start, end = clock.day_window(day, clock.zone(time_zone))
    return int(session.execute(_CARD_TIME, {"tenant_id": tenant_id, "start": start, "end": end}).scalar_one())


_DUE = text("""
    select distinct t.id, d.day, b.time_zone
    from tenants t
    join tenant_billing b on b.tenant_id = t.id
    join card_reservations r on r.tenant_id = t.id
    cross join lateral (select (cast(:now as timestamptz) at time zone b.time_zone)::date as today) n
    cross join lateral (
        select n.today - s.back as day from generate_series(1, cast(:back as integer)) as s (back)) d
    cross join lateral (
        select d.day::timestamp at time zone b.time_zone as starts,
               (d.day + 1)::timestamp at time zone b.time_zone as ends) i
    where not t.is_internal and d.day >= b.valid_from and (b.valid_until is null or d.day < b.valid_until)
      and r.valid_from < i.ends and least(r.valid_until, t.closed_at, 'infinity') > greatest(r.valid_from, i.starts)
      and not exists (select 1 from gpu_days g where g.tenant_id = t.id and g.day = d.day)
    order by d.day, t.id
""")

# All of an interval is days, hours and so on: its epoch is exact to the microsecond.
_CARD_TIME = text("""
    select coalesce(sum(r.cards * extract(epoch from
               least(r.valid_until, t.closed_at, cast(:end as timestamptz)) - greatest(r.valid_from, :start))
               * 1000000), 0)::numeric(38, 0)
    from card_reservations r join tenants t on t.id = r.tenant_id
    where r.tenant_id = :tenant_id and r.valid_from < :end
      and least(r.valid_until, t.closed_at, 'infinity') > greatest(r.valid_from, :start)
""")

_BILLED = text("""
    select g.tenant_id, e.prompt_tokens
    from gpu_days g
    join usage_events e on e.id = g.event_id and e.tenant_id = g.tenant_id
         and e.usage_day_utc between g.day - 1 and g.day + 1
    where g.day = :day
""")
