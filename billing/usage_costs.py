"""What usage costs, by any of day, hour, model, key and tag: priced by the statement that counts a day for its invoice.

An amount is exact, and what receipts say of the same requests together. Volume tiers, commitments and the limits of
quotes are of a whole month, so they stand on the invoice only. Fine-tunes and storage are of no request: `costs.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.usage_groups import ADDED, PRICED, SERVED
from studio import storage_usage

Dimension = Literal["day", "hour", "model", "key", "tag"]
_COLUMNS: Mapping[Dimension, str] = {
    "day": "e.usage_day_utc",
    "hour": "date_trunc('hour', e.started_at, 'UTC')",
    "model": "e.variant_id",
    "key": "e.api_key_id",
    "tag": "e.tag",
}


@dataclass(frozen=True, slots=True)
class GroupCost:
    """One currency of one group. `group`: its dimensions in the order that was asked for."""

    group: tuple[Any, ...]
    currency: str | None  # None: on these days the tenant is billed by nobody
    amount: Decimal
    unpriced_tokens: int  # without exactly one price: a person looks at them before they are billed


def usage_costs(
    session: Session,
    tenant_id: UUID,
    start: date,
    end: date,
    dimensions: Sequence[Dimension],
    *,
    model: str | None = None,
    key: UUID | None = None,
    tag: str | None = None,
    requests: Collection[UUID] | None = None,
) -> list[GroupCost]:
    """The requests of the UTC days [start, end), with the tenant's own eyes (`tenant_scope`), too.

    `requests`: only these, by their events' ids.
    """
    parameters = {"tenant_id": tenant_id, "start": start, "end": end, "model": model, "key": key, "tag": tag}
    if requests is not None:
        parameters["requests"] = list(requests)
    rows = session.execute(_statement(dimensions, are_named=requests is not None), parameters).mappings()
    return [
        GroupCost(tuple(row[name] for name in dimensions), row["currency"], row["amount"], int(row["unpriced"]))
        for row in rows
    ]


def _statement(dimensions: Sequence[Dimension], *, are_named: bool = False) -> Any:
    """Groups take the place of seals: events of one group are added, then priced."""
    columns = [_COLUMNS[name] for name in dimensions]
    rank = f"dense_rank() over (order by {', '.join(columns)})" if columns else "1"
    named = "".join(f", {column} as by_{name}" for name, column in zip(dimensions, columns, strict=True))
    named_only = "and e.id = any(cast(:requests as uuid[]))" if are_named else ""
    shown = "".join(f"g.by_{name} as {name}, " for name in dimensions)
    return text(f"""
        with sealed as (
            select e.*, {rank} as seal{named}
            from usage_events e
            where e.tenant_id = :tenant_id and e.usage_day_utc >= :start and e.usage_day_utc < :end
              and e.endpoint not in {storage_usage.OF_NO_REQUEST}
              and (cast(:model as text) is null or e.variant_id = :model)
              and (cast(:key as uuid) is null or e.api_key_id = :key)
              and (cast(:tag as text) is null or e.tag = :tag)
              {named_only}
        ), kept as (
            select s.* from sealed s where not is_discarded(s.id, s.tenant_id)
        ), groups as (
            select distinct on (seal) * from sealed
        ), seals as (
            select seal, tenant_id, seal as seal_no from groups
        ), {_SPANS}, {SERVED}, {ADDED}, {PRICED}
        select {shown}p.currency, coalesce(sum(p.tokens * r.per_million) filter (where p.prices = 1), 0) * 0.000001
                   as amount, coalesce(sum(p.tokens) filter (where p.prices <> 1), 0) as unpriced
        from groups g
        join priced_groups p on p.seal_no = g.seal
        left join prices r on r.id = p.price_id
        group by g.seal, {"".join(f"g.by_{name}, " for name in dimensions)}p.currency
        order by g.seal, p.currency
    """)  # noqa: S608 (what is put in are names and statements of our own)


# As those of a civil day in `usage_groups.py`: as far as the tenant's terms hold, cut wherever a price changes. An
# event lies in the UTC day of its instant; a day more on either side costs nothing. An instant with two billing days,
# since the zone changed, has its first here.
_SPANS = """
    spans as materialized (
        select row_number() over () as span, k.seal, t.legal_entity_id, t.currency, t.time_zone,
               null::date as billing_day, c.starts, c.ends
        from seals k
        cross join (
            select b.*, greatest(b.begins, lag(b.stops) over (order by b.begins), cast(:start as date) - 1) as since
            from (select b.*, b.valid_from::timestamp at time zone b.time_zone as begins,
                         coalesce(b.valid_until::timestamp at time zone b.time_zone, 'infinity') as stops
                  from tenant_billing b
                  where b.tenant_id = :tenant_id) b) t
        cross join lateral (
            select i.at as starts, lead(i.at, 1, t.stops) over (order by i.at) as ends
            from (select t.since as at
                  union
                  select h.at from prices p
                  cross join lateral (values (p.valid_from), (p.valid_until)) as h (at)
                  where (p.tenant_id is null or p.tenant_id = :tenant_id) and p.currency = t.currency
                    and h.at > t.since and h.at < least(t.stops, cast(:end as date) + 1)) i) c
    )"""
