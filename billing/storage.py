"""Storage: what each tenant kept on each of its civil days, measured from the rows of what lies in the object store.

Files and adapters, parts of an upload until it ends, and results of a batch until they are its files. A byte counts
from when its row was made until it was deleted, expired, or its tenant was closed; byte-seconds are exact,
kilobyte-days are rounded down once a day. A day is measured once, when it is over in the tenant's zone. A list that
has no price of storage then sells none: the day is measured, and charged to nobody.

Known limits: what a conversation or a cache keeps is not measured. Days that were over before their price was recorded
stay uncharged. A tenant that is opened again pays for the days in between: its files were kept for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from billing import day_metering
from billing.day_metering import LOOK_BACK_DAYS, DayUsage, Source
from studio import clock, storage_usage
from studio.db.usage import StorageDay

_SOURCE = Source(storage_usage.SOURCE_ID, "storage", storage_usage.ENDPOINT, storage_usage.PRODUCT)


@dataclass(frozen=True, slots=True)
class DueDay:
    """A civil day that is over and not measured yet; `is_sold`: whether its tenant pays for storage on it."""

    tenant_id: UUID
    day: date
    time_zone: str
    is_sold: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes times seconds of one tenant and day: what it brought, what our work left it, its trained weights."""

    file_byte_seconds: int
    result_byte_seconds: int
    adapter_byte_seconds: int

    @property
    def kilobyte_days(self) -> int:
        """All of it, rounded down."""
        together = self.file_byte_seconds + self.result_byte_seconds + self.adapter_byte_seconds
        return together // storage_usage.BYTE_SECONDS


@dataclass(frozen=True, slots=True)
class MeasuredDay:
    """A row of `storage_days`."""

    tenant_id: UUID
    day: date
    time_zone: str
    file_byte_seconds: int
    result_byte_seconds: int
    adapter_byte_seconds: int
    kilobyte_days: int
    is_sold: bool
    event_id: UUID | None


@dataclass(frozen=True, slots=True)
class Uneven:
    """A measured day that its rows, or its usage event, do not bear out."""

    tenant_id: UUID
    day: date
    measured: int
    measured_again: int
    billed: int | None  # None: no event


def due(session: Session, now: datetime, back: int = LOOK_BACK_DAYS) -> list[DueDay]:
    """Days that are over in their tenants' zones and not measured, so many days back; nothing of ours."""
    rows = session.execute(_DUE, {"now": now, "back": back})
    return [DueDay(row.id, row.day, row.time_zone, row.is_sold) for row in rows]


def measure(session: Session, day: date, now: datetime) -> list[MeasuredDay]:
    """Measure a civil day for the tenants of whom it is due, and meter what is sold of it. Again it finds nothing.

    However long ago it was.
    """
    last_seq = day_metering.lock(session, _SOURCE, now)
    back = day_metering.look_back(day, now)
    found = [one for one in due(session, now, back) if one.day == day]
    measured = [_measured(one, _kept(session, one.tenant_id, one.day, one.time_zone)) for one in found]
    if measured:
        session.execute(insert(StorageDay), [asdict(row) for row in measured])
    billed = [
        DayUsage(row.event_id, row.tenant_id, row.day, row.time_zone, row.kilobyte_days)
        for row in measured
        if row.event_id is not None
    ]
    day_metering.meter(session, _SOURCE, last_seq, billed)
    return measured


def measured_days(session: Session, day: date) -> list[MeasuredDay]:
    """What is measured of a civil day, the largest first."""
    columns = [StorageDay.__table__.c[name] for name in MeasuredDay.__dataclass_fields__]
    query = select(*columns).where(StorageDay.day == day)
    rows = [MeasuredDay(**row) for row in session.execute(query).mappings()]
    return sorted(rows, key=lambda row: (-row.kilobyte_days, row.tenant_id))


def uneven(session: Session, day: date) -> list[Uneven]:
    """Measured days whose files and adapters, or whose event, come to something else now."""
    billed: dict[UUID, int] = {row.tenant_id: row.prompt_tokens for row in session.execute(_BILLED, {"day": day})}
    found = []
    for row in measured_days(session, day):
        again = _kept(session, row.tenant_id, row.day, row.time_zone).kilobyte_days
        expected = row.kilobyte_days if row.event_id is not None else None
        if again != row.kilobyte_days or billed.get(row.tenant_id) != expected:
            found.append(Uneven(row.tenant_id, row.day, row.kilobyte_days, again, billed.get(row.tenant_id)))
    return found


def _measured(one: DueDay, kept: Kept) -> MeasuredDay:
    last = day_metering.last_instant(one.day, one.time_zone)
    is_billed = one.is_sold and kept.kilobyte_days > 0
    return MeasuredDay(
        tenant_id=one.tenant_id, day=one.day, time_zone=one.time_zone, **asdict(kept), is_sold=one.is_sold,
        kilobyte_days=kept.kilobyte_days,
        event_id=storage_usage.event_id(one.tenant_id, one.day, last) if is_billed else None,
    )  # fmt: skip


def _kept(session: Session, tenant_id: UUID, day: date, time_zone: str) -> Kept:
    start, end = clock.day_window(day, clock.zone(time_zone))
    row = session.execute(_KEPT, {"tenant_id": tenant_id, "start": start, "end": end}).one()
    return Kept(int(row.files), int(row.results), int(row.adapters))


# `recorded_at`: a price that is declared with a beginning in the past does not charge days that were over by then.
_DUE = text("""
    select t.id, d.day, b.time_zone, exists (
               select 1 from prices p
               where p.variant_id = 'storage' and p.currency = b.currency
                 and (p.tenant_id is null or p.tenant_id = t.id) and p.recorded_at < i.ends
                 and p.valid_from < i.ends and (p.valid_until is null or p.valid_until >= i.ends)) as is_sold
    from tenants t
    join tenant_billing b on b.tenant_id = t.id
    cross join lateral (select (cast(:now as timestamptz) at time zone b.time_zone)::date as today) n
    cross join lateral (
        select n.today - s.back as day from generate_series(1, cast(:back as integer)) as s (back)) d
    cross join lateral (
        select d.day::timestamp at time zone b.time_zone as starts,
               (d.day + 1)::timestamp at time zone b.time_zone as ends) i
    where not t.is_internal and d.day >= b.valid_from and (b.valid_until is null or d.day < b.valid_until)
      and t.created_at < i.ends and (t.closed_at is null or t.closed_at > i.starts)
      and not exists (select 1 from storage_days m where m.tenant_id = t.id and m.day = d.day)
    order by d.day, t.id
""")

_KEPT = text("""
    with held as (
        select case when purpose in ('batch_output', 'fine-tune-results') then 'result' else 'file' end as sort,
               size_bytes, created_at, least(deleted_at, expires_at) as gone_at
        from files where tenant_id = :tenant_id
        union all
        select 'adapter', size_bytes, created_at, deleted_at from adapters where tenant_id = :tenant_id
        union all
        select 'file', p.size_bytes, p.created_at, least(u.ended_at, u.expires_at)
        from upload_parts p join uploads u on u.id = p.upload_id and u.tenant_id = p.tenant_id
        where p.tenant_id = :tenant_id
        union all
        select 'result', s.result_bytes, s.done_at, coalesce(b.completed_at, b.expired_at, b.cancelled_at, b.failed_at)
        from batch_shards s join batches b on b.id = s.batch_id
        where s.tenant_id = :tenant_id and s.result_bytes > 0
    ), spans as (
        select h.sort, h.size_bytes * extract(epoch from
                   least(h.gone_at, t.closed_at, cast(:end as timestamptz)) - greatest(h.created_at, :start))
                   as byte_seconds
        from held h join tenants t on t.id = :tenant_id
        where h.created_at < :end and least(h.gone_at, t.closed_at, 'infinity') > greatest(h.created_at, :start)
    )
    select coalesce(floor(sum(byte_seconds) filter (where sort = 'file')), 0) as files,
           coalesce(floor(sum(byte_seconds) filter (where sort = 'result')), 0) as results,
           coalesce(floor(sum(byte_seconds) filter (where sort = 'adapter')), 0) as adapters
    from spans
""")

_BILLED = text("""
    select m.tenant_id, e.prompt_tokens
    from storage_days m
    join usage_events e on e.id = m.event_id and e.tenant_id = m.tenant_id
         and e.usage_day_utc between m.day - 1 and m.day + 1
    where m.day = :day
""")
