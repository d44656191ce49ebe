"""Missed targets: fast usage that was billed at the base price since its first token came too late. Only reads.

The rule is data (`first_token_target` in the catalog) and is applied where usage is counted (`usage.py`): from the
instant at which the request was whole and an engine was ready, so that neither a slow upload nor a cold start counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Missed:
    """One variant of one tenant over the days asked for."""

    tenant_id: UUID
    tenant: str  # its slug
    variant_id: str
    currency: str
    tokens: int
    amount: Decimal  # billed, exact
    given_up: Decimal  # what it would have been at the fast tier's list price, less that


@dataclass(frozen=True, slots=True)
class Promised:
    """How a variant's promise was kept: of the requests that it covers, how many missed it."""

    variant_id: str
    target_ms: int
    requests: int
    missed: int


def billed_at_base(session: Session, start: date, end: date) -> list[Missed]:
    """Of the billing days [start, end)."""
    rows = session.execute(_BILLED, {"start": start, "end": end})
    return [Missed(**row) for row in rows.mappings()]


def kept(session: Session, start: datetime, end: datetime) -> list[Promised]:
    """Of the requests that began in [start, end) and that something was promised, by variant."""
    rows = session.execute(_KEPT, {"start": start, "end": end})
    return [Promised(**row) for row in rows.mappings()]


_BILLED = text("""
    select r.tenant_id, t.slug as tenant, r.variant_id, r.currency, sum(r.tokens)::bigint as tokens,
           sum(r.amount) as amount,
           coalesce(sum(r.tokens * f.per_million) / 1000000, 0) - sum(r.amount) as given_up
    from rated_lines r
    join tenants t on t.id = r.tenant_id
    left join lateral (
        select p.per_million from prices p
        where p.tenant_id is null and p.currency = r.currency and p.variant_id = r.variant_id and p.unit = r.unit
          and p.valid_from < cast(r.billing_day + 1 as timestamp) at time zone 'UTC'
        order by p.valid_from desc limit 1) f on true
    where r.basis = 'missed_target' and r.billing_day >= :start and r.billing_day < :end
    group by r.tenant_id, t.slug, r.variant_id, r.currency
    order by t.slug, r.variant_id, r.currency
""")
_KEPT = text("""
    select v.id as variant_id, v.first_token_target_ms as target_ms, count(*) as requests,
           count(*) filter (
               where e.first_token_at - e.admitted_at > v.first_token_target_ms * interval '1 ms') as missed
    from usage_events e join model_variants v on v.id = e.variant_id
    where e.started_at >= :start and e.started_at < :end and e.batch_id is null
      and e.usage_day_utc between cast(:start as date) - 1 and cast(:end as date) + 1
      and e.first_token_at is not null and e.admitted_at is not null and v.first_token_target_ms is not null
      and e.prompt_tokens <= coalesce(v.first_token_target_prompt_tokens, e.prompt_tokens)
    group by v.id, v.first_token_target_ms
    order by v.id
""")
