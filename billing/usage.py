"""Counting: the events of a seal become integer tokens per variant, unit, price row and civil day of the tenant.

Here is no multiplication: splitting by the price row that was valid when the request started is what makes rating a
single one. An event without exactly one price goes to quarantine and holds its seal; nothing is priced at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from billing import windows
from billing.windows import SealKey, over_seal
from studio.db.usage import UsageDaily

UNPRICED = "not exactly one price"


@dataclass(frozen=True, slots=True)
class Counted:
    """What counting a seal came to."""

    events: int
    tokens: int
    held_events: int  # in quarantine; above zero, nothing of the seal is counted


@dataclass(frozen=True, slots=True)
class DailyTokens:
    """Tokens of one seal in one unit at one price on one civil day."""

    window_day: date
    tenant_id: UUID
    seal_no: int
    variant_id: str
    unit: str
    price_id: UUID
    billing_day: date
    time_zone: str
    legal_entity_id: str
    currency: str
    events: int
    tokens: int


def count(session: Session, key: SealKey) -> Counted:
    """Count a seal, replacing what was counted before. It becomes `counted`, or `held` by what it cannot price."""
    seal = windows.lock(session, key)
    windows.require_state(seal, ("sealed", "counted", "held"), "Counting")
    session.execute(delete(UsageDaily).where(_of_seal(key)))
    seal_parameters = asdict(key)
    session.execute(_QUARANTINE_UNPRICED, {**seal_parameters, "reason": UNPRICED})
    session.execute(_RESOLVE_PRICED, {**seal_parameters, "reason": UNPRICED})
    held = int(session.execute(_HELD_EVENTS, seal_parameters).scalar_one())
    if held:
        windows.move(session, seal, "held")
        return Counted(seal.events, 0, held)
    session.execute(_COUNT, seal_parameters)
    tokens = counted_tokens(session, key)
    if tokens != seal.tokens:
        raise RuntimeError(f"the seal {key} holds {seal.tokens} tokens but {tokens} were counted")
    windows.move(session, seal, "counted")
    return Counted(seal.events, tokens, 0)


def counted_tokens(session: Session, key: SealKey) -> int:
    """All tokens counted for a seal."""
    return int(session.scalars(select(func.coalesce(func.sum(UsageDaily.tokens), 0)).where(_of_seal(key))).one())


def daily_tokens(session: Session, window_day: date) -> list[DailyTokens]:
    """What is counted of a window day, over all tenants and seals."""
    columns = [UsageDaily.__table__.c[field.name] for field in fields(DailyTokens)]
    query = select(*columns).where(UsageDaily.window_day == window_day).order_by(*columns[:7])
    return [DailyTokens(**row) for row in session.execute(query).mappings()]


def held_events(session: Session, window_day: date, limit: int) -> list[Mapping[str, Any]]:
    """Unresolved quarantine entries of the events of a window day: what to look at when a seal is held."""
    rows = session.execute(_HELD_OF_DAY, {"window_day": window_day, "limit": limit})
    return [dict(row) for row in rows.mappings()]


def _of_seal(key: SealKey) -> Any:
    return (
        (UsageDaily.window_day == key.window_day)
        & (UsageDaily.tenant_id == key.tenant_id)
        & (UsageDaily.seal_no == key.seal_no)
    )


# One row per event, unit and matching price: exactly one where all is well. The tier that served decides the price.
# `billing_day` is civil time in the tenant's own zone, which the dated terms name.
MEASURED = """
    measured as (
        select s.id, s.tenant_id, s.started_at, v.id as variant_id, t.legal_entity_id, t.currency, t.time_zone,
               (s.started_at at time zone t.time_zone)::date as billing_day,
               case when s.batch_id is null then u.unit else 'batch_' || u.unit end as unit, u.tokens
        from sealed s
        left join model_variants v on v.model_id = s.model_id and v.tier = s.tier_served
        left join models m on m.id = s.model_id
        left join tenant_billing t on t.tenant_id = s.tenant_id
             and t.valid_from <= (s.started_at at time zone t.time_zone)::date
             and (t.valid_until is null or (s.started_at at time zone t.time_zone)::date < t.valid_until)
        cross join lateral (values
            ('embedding', case when m.task = 'embedding' then s.prompt_tokens - s.reused_prompt_tokens else 0 end),
            ('prompt', case when m.task = 'embedding' then 0
                       else s.prompt_tokens - s.cached_tokens - s.reused_prompt_tokens end),
            ('cached_prompt', case when m.task = 'embedding' then 0 else s.cached_tokens end),
            ('completion', s.completion_tokens - s.reused_completion_tokens),
            ('reused', s.reused_prompt_tokens + s.reused_completion_tokens)) as u (unit, tokens)
        where u.tokens > 0
    )"""
PRICED = """
    priced as (
        select m.*, p.id as price_id, count(p.id) over (partition by m.id, m.unit) as prices
        from measured m
        left join prices p on p.currency = m.currency and p.variant_id = m.variant_id and p.unit = m.unit
             and p.valid_from <= m.started_at and (p.valid_until is null or m.started_at < p.valid_until)
    )"""

_QUARANTINE_UNPRICED = over_seal(
    """
    insert into quarantine (reason, event_id, tenant_id, payload)
    select :reason, s.id, s.tenant_id, to_jsonb(s) - 'ingested_at' || jsonb_build_object('unpriced', p.unpriced)
    from sealed s
    join (select id, jsonb_object_agg(unit, prices) as unpriced from priced where prices <> 1 group by id) p using (id)
    where not exists (
        select 1 from quarantine q where q.event_id = s.id and q.reason = :reason and q.resolved_at is null)
    """,
    MEASURED,
    PRICED,
)

_RESOLVE_PRICED = over_seal(
    """
    update quarantine q set resolved_at = now()
    from (select id from priced group by id having bool_and(prices = 1)) p
    where q.event_id = p.id and q.reason = :reason and q.resolved_at is null
    """,
    MEASURED,
    PRICED,
)

# Any unresolved entry holds, also a conflict between two versions of an event: it is not for us to pick one.
_HELD_EVENTS = over_seal("""
    select count(*) from sealed s
    where exists (select 1 from quarantine q where q.event_id = s.id and q.resolved_at is null)
""")

_COUNT = over_seal(
    """
    insert into usage_daily (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, time_zone,
                             legal_entity_id, currency, events, tokens)
    select cast(:window_day as date), tenant_id, cast(:seal_no as integer), variant_id, unit, price_id, billing_day,
           time_zone, legal_entity_id, currency, count(*), sum(tokens)
    from priced
    group by tenant_id, variant_id, unit, price_id, billing_day, time_zone, legal_entity_id, currency
    """,
    MEASURED,
    PRICED,
)

_HELD_OF_DAY = text("""
    select q.event_id::text as event_id, q.reason, q.payload ->> 'model_id' as model_id,
           q.payload ->> 'tier_served' as tier_served, q.payload ->> 'started_at' as started_at,
           q.payload ->> 'unpriced' as prices_found
    from quarantine q join usage_events e on e.id = q.event_id
    where q.resolved_at is null and (e.started_at at time zone 'Europe/Berlin')::date = :window_day
    order by q.at
    limit :limit
""")
