"""Whether a tenant's month is over and all of its usage is measured, sealed and reconciled: only then may money say so.

A month is over when it is so in the seller's zone and in the buyer's, and the last window that can hold usage of it has
closed. A window that could not be sealed has no row, and a silent gateway may hold usage of anybody, so both are asked
for besides the seals that there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import gpu_hours, sources, storage, unsealed, windows
from studio import clock


@dataclass(frozen=True, slots=True, order=True)
class TenantMonth:
    """One tenant's month, by its first day."""

    tenant_id: UUID
    month: date


def complete(session: Session, months: Collection[TenantMonth], now: datetime) -> set[TenantMonth]:
    """Those that are over and wholly reconciled. One without billing terms on its last day is not."""
    tenant_ids, firsts = [one.tenant_id for one in months], [one.month for one in months]
    asked = {"tenant_ids": tenant_ids, "months": firsts, "grace": windows.GRACE, "now": now}
    over = session.execute(_OVER, asked).all()
    if not over:
        return set()
    waiting: dict[UUID, list[date]] = defaultdict(list)
    for window in unsealed.of_closed_days(session, now):
        waiting[window.tenant_id].append(window.window_day)
    # Without its last days' storage and GPU hours a month would be invoiced in two parts.
    unmeasured = {
        TenantMonth(day.tenant_id, clock.month_start(day.day)) for day in storage.due(session, now) if day.is_sold
    } | {TenantMonth(day.tenant_id, clock.month_start(day.day)) for day in gpu_hours.due(session, now)}
    spans = {(row.starts, row.ends) for row in over}
    late = {span for span in spans if sources.lagging(session, *span, span[1] + windows.GRACE)}
    return {
        TenantMonth(row.tenant_id, row.month)
        for row in over
        if (row.starts, row.ends) not in late
        and TenantMonth(row.tenant_id, row.month) not in unmeasured
        and not any(row.first_window <= day <= row.last_window for day in waiting.get(row.tenant_id, ()))
    }


# The windows that can hold usage of a month in the tenant's own zone: the first and the last reach into its neighbours.
_OVER = text("""
    select m.tenant_id, m.month, w.first_window, w.last_window, i.starts, i.ends
    from unnest(cast(:tenant_ids as uuid[]), cast(:months as date[])) as m (tenant_id, month)
    cross join lateral (select m.month + interval '1 month' as ends) n
    join tenant_billing t on t.tenant_id = m.tenant_id and t.valid_from < n.ends
         and (t.valid_until is null or t.valid_until >= n.ends)
    join legal_entities l on l.id = t.legal_entity_id
    cross join lateral (
        select (m.month::timestamp at time zone t.time_zone at time zone 'Europe/Berlin')::date as first_window,
               ((n.ends at time zone t.time_zone - interval '1 microsecond') at time zone 'Europe/Berlin')::date
                   as last_window) w
    cross join lateral (
        select w.first_window::timestamp at time zone 'Europe/Berlin' as starts,
               (w.last_window + 1)::timestamp at time zone 'Europe/Berlin' as ends) i
    where greatest(n.ends at time zone t.time_zone, n.ends at time zone l.time_zone,
                   i.ends + cast(:grace as interval)) <= :now
      and not exists (
        select 1 from usage_windows o
        where o.tenant_id = m.tenant_id and o.state <> 'reconciled'
          and o.window_day between w.first_window and w.last_window)
""")
