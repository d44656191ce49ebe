"""Counting by groups: the tokens of events that must cost the same are added before they are priced.

Two events cost the same when seal, civil day, model, tier, quote and missed target are the same and no price of their
tenant changes between them. So an event is looked at once, nothing is kept of it, and units and prices are joined with
the few groups. What comes to rows of `usage_daily` is what `usage.PRICED` says of each event (a test compares them);
which event has no price, only that one can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.windows import SealKey, over_seals


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of a seal, and how many amounts were not, for want of exactly one price."""

    tokens: int
    unpriced: int


def write(session: Session, window_day: date, keys: Sequence[SealKey]) -> dict[SealKey, Written]:
    """Write the rows of seals of one day, found by their tenants; those that have no tokens are left out.

    Events that a person has discarded are left out. A seal with an unpriced amount has only a part of its rows.
    """
    return _written(window_day, session.execute(_WRITE_FEW, _parameters(window_day, keys)))


def write_most(session: Session, window_day: date, keys: Sequence[SealKey]) -> dict[SealKey, Written]:
    """The same for most seals of a day, in one look at all of its events; of their tenants none may be discarded."""
    session.execute(READ_IN_A_ROW)
    rows = session.execute(_WRITE_MANY, _parameters(window_day, keys)).all()
    session.execute(_AS_USUAL)
    return _written(window_day, rows)


def _parameters(window_day: date, keys: Sequence[SealKey]) -> dict[str, Any]:
    return {
        "window_day": window_day,
        "tenant_ids": [key.tenant_id for key in keys],
        "seal_nos": [key.seal_no for key in keys],
    }


def _written(window_day: date, rows: Any) -> dict[SealKey, Written]:
    return {SealKey(window_day, row.tenant_id, row.seal_no): Written(row.tokens, row.unpriced) for row in rows}


KEPT = """
    kept as (
        select s.* from sealed s
        where not exists (select 1 from quarantine q where q.event_id = s.id and q.decision = 'discarded')
    )"""
# Civil days of a window in each zone. Zones differ, and change, by quarters of an hour.
_DAYS = """
    days as materialized (
        select z.time_zone, (g.at at time zone z.time_zone)::date as billing_day, min(g.at) as starts,
               max(g.at) + interval '15 minutes' as ends
        from (select distinct time_zone from tenant_billing where tenant_id = any(cast(:tenant_ids as uuid[]))) z
        cross join generate_series(
            cast(:window_day as timestamp) at time zone 'Europe/Berlin',
            (cast(cast(:window_day as date) + 1 as timestamp) at time zone 'Europe/Berlin') - interval '15 minutes',
            interval '15 minutes') as g (at)
        group by z.time_zone, billing_day
    ), changes as materialized (
        select distinct p.tenant_id, p.currency, c.at
        from prices p
        cross join lateral (values (p.valid_from), (p.valid_until)) as c (at)
        where c.at > cast(:window_day as timestamp) at time zone 'Europe/Berlin'
          and c.at < cast(cast(:window_day as date) + 1 as timestamp) at time zone 'Europe/Berlin'
    )"""
# A civil day of a seal, as far as the tenant's terms hold, cut wherever a price of the list or of its own changes.
_SPANS = """
    spans as materialized (
        select row_number() over () as span, k.seal, t.legal_entity_id, t.currency, t.time_zone, d.billing_day,
               c.starts, c.ends
        from seals k
        join tenant_billing t on t.tenant_id = k.tenant_id
        join days d on d.time_zone = t.time_zone and d.billing_day >= t.valid_from
             and (t.valid_until is null or d.billing_day < t.valid_until)
        cross join lateral (
            select i.at as starts, lead(i.at, 1, d.ends) over (order by i.at) as ends
            from (select d.starts as at
                  union
                  select h.at from changes h
                  where (h.tenant_id is null or h.tenant_id = t.tenant_id) and h.currency = t.currency
                    and h.at > d.starts and h.at < d.ends) i) c
    )"""
SERVED = """
    served as materialized (
        select row_number() over () as served, v.model_id, v.tier, v.id as variant_id,
               m.task = 'embedding' as embeds, base.id as base_id,
               v.first_token_target_ms * interval '1 ms' as target,
               v.first_token_target_prompt_tokens as target_prompt
        from model_variants v
        join models m on m.id = v.model_id
        left join model_variants base on base.model_id = v.model_id and base.tier = 'base' and v.tier = 'fast'
             and v.first_token_target_ms is not null
    )"""
# The job that a fine-tune's usage is of, and so its quote. Null, and so nothing to look for, for every request.
JOB_OF_EVENT = """case when s.endpoint = '/v1/fine_tuning/jobs' and s.request_id ~ '^ftjob-[0-9a-f]{32}$'
                    then substr(s.request_id, 7)::uuid end"""
# Where a seal's spans begin and end: an event's place among them is found without trying one span after another.
_CUTS = """
    cuts as materialized (
        select i.seal, array_agg(i.at order by i.at) as at
        from (select seal, starts as at from spans union select seal, ends from spans) i
        group by i.seal
    )"""
# Grouped by few and small keys, and only then joined with what has none of most events: jobs, and what they were
# quoted. An event without terms has no span, and an unknown model no number: without a price.
ADDED = f"""
    {_CUTS},
    sums as (
        select s.seal, width_bucket(s.started_at, c.at) as place, v.served, s.batch_id, {JOB_OF_EVENT} as job_id,
               case s.endpoint when '/v1/fine_tuning/jobs' then 'training' when 'storage' then 'storage'
                    when 'gpu_hour' then 'gpu_hour' end as sort,
               coalesce(v.base_id is not null and s.batch_id is null and s.first_token_at - s.admitted_at > v.target
                        and s.prompt_tokens <= coalesce(v.target_prompt, s.prompt_tokens), false) as is_late,
               count(*) filter (where s.prompt_tokens > s.reused_prompt_tokens
                   + case when v.embeds then 0 else s.cached_tokens end) as prompt_events,
               sum(s.prompt_tokens - s.reused_prompt_tokens
                   - case when v.embeds then 0 else s.cached_tokens end) as prompt_tokens,
               count(*) filter (where s.cached_tokens > 0) as cached_events, sum(s.cached_tokens) as cached_tokens,
               count(*) filter (where s.completion_tokens > s.reused_completion_tokens) as completion_events,
               sum(s.completion_tokens - s.reused_completion_tokens) as completion_tokens,
               count(*) filter (where s.reused_prompt_tokens + s.reused_completion_tokens > 0) as reused_events,
               sum(s.reused_prompt_tokens + s.reused_completion_tokens) as reused_tokens
        from kept s
        left join served v on v.model_id = s.model_id and v.tier = s.tier_served
        left join cuts c on c.seal = s.seal
        group by s.seal, place, v.served, s.batch_id, job_id, sort, is_late
    ), added as (
        select s.seal, p.span, s.served, s.batch_id is not null as is_batch, coalesce(b.quote_id, j.quote_id) as quote,
               s.sort, s.is_late, sum(s.prompt_events) as prompt_events, sum(s.prompt_tokens) as prompt_tokens,
               sum(s.cached_events) as cached_events, sum(s.cached_tokens) as cached_tokens,
               sum(s.completion_events) as completion_events, sum(s.completion_tokens) as completion_tokens,
               sum(s.reused_events) as reused_events, sum(s.reused_tokens) as reused_tokens
        from sums s
        left join batches b on b.id = s.batch_id
        left join fine_tuning_jobs j on j.id = s.job_id
        left join cuts c on c.seal = s.seal
        left join spans p on p.seal = s.seal and c.at[s.place] >= p.starts and c.at[s.place] < p.ends
        group by s.seal, p.span, s.served, is_batch, quote, s.sort, s.is_late
    )"""  # noqa: S608 (what is put in are our own statements)
# A quote's prices are those of its instant; a base price is taken where it is the lower one: as in `usage.PRICED`.
PRICED = """
    units as (
        select k.tenant_id, k.seal_no, v.variant_id, case when a.is_late then v.base_id end as base_id,
               p.billing_day, p.time_zone, p.legal_entity_id, p.currency, coalesce(q.priced_at, p.starts) as priced_at,
               case when q.id is null then '' else 'qte_' || replace(q.id::text, '-', '') end as quote,
               case when a.is_batch then 'batch_' || u.unit else u.unit end as unit, u.events, u.tokens,
               row_number() over () as no
        from added a
        join seals k on k.seal = a.seal
        left join spans p on p.span = a.span
        left join served v on v.served = a.served
        left join quotes q on q.id = a.quote
        cross join lateral (values
            (coalesce(a.sort, case when coalesce(v.embeds, false) then 'embedding' else 'prompt' end),
             a.prompt_events, a.prompt_tokens),
            ('cached_prompt', a.cached_events, case when coalesce(v.embeds, false) then 0 else a.cached_tokens end),
            ('completion', a.completion_events, a.completion_tokens),
            ('reused', a.reused_events, a.reused_tokens)) as u (unit, events, tokens)
        where u.tokens > 0
    ), priced_groups as materialized (
        select u.*, case when f.is_missed then coalesce(bo.id, bl.id) else coalesce(o.id, l.id) end as price_id,
               case when f.is_missed then 'missed_target' else u.quote end as basis,
               count(coalesce(o.id, l.id)) over (partition by u.no) as prices
        from units u
        left join prices l on l.tenant_id is null and l.currency = u.currency and l.variant_id = u.variant_id
             and l.unit = u.unit and l.valid_from <= u.priced_at
             and (l.valid_until is null or u.priced_at < l.valid_until)
        left join prices o on o.tenant_id = u.tenant_id and o.currency = u.currency and o.variant_id = u.variant_id
             and o.unit = u.unit and o.valid_from <= u.priced_at
             and (o.valid_until is null or u.priced_at < o.valid_until)
        left join prices bl on bl.tenant_id is null and bl.currency = u.currency and bl.variant_id = u.base_id
             and bl.unit = u.unit and bl.valid_from <= u.priced_at
             and (bl.valid_until is null or u.priced_at < bl.valid_until)
        left join prices bo on bo.tenant_id = u.tenant_id and bo.currency = u.currency and bo.variant_id = u.base_id
             and bo.unit = u.unit and bo.valid_from <= u.priced_at
             and (bo.valid_until is null or u.priced_at < bo.valid_until)
        cross join lateral (
            select coalesce(coalesce(bo.per_million, bl.per_million) < coalesce(o.per_million, l.per_million), false)
                as is_missed) f
    )"""
_WRITTEN = """
    written as (
        insert into usage_daily (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis,
                                 time_zone, legal_entity_id, currency, events, tokens)
        select cast(:window_day as date), tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis,
               time_zone, legal_entity_id, currency, sum(events), sum(tokens)
        from priced_groups
        where prices = 1
        group by tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis, time_zone, legal_entity_id,
                 currency
    )"""
_WRITE = """
    select tenant_id, seal_no, count(*) filter (where prices <> 1) as unpriced,
           coalesce(sum(tokens) filter (where prices = 1), 0)::bigint as tokens
    from priced_groups
    group by tenant_id, seal_no
"""
_GROUPED = (_DAYS, _SPANS, SERVED, ADDED, PRICED)
_WRITE_FEW = over_seals(_WRITE, KEPT, *_GROUPED, _WRITTEN)
_WRITE_MANY = over_seals(_WRITE, "kept as (select * from sealed)", *_GROUPED, _WRITTEN)
# A day's events lie side by side and each tenant's apart, so for most of a day reading all of them in a row is the
# cheap way, and groups, of which there are few, are added in memory and need no sorting. PostgreSQL cannot know how
# few they are. Nor does it know how many seals there are: it expects one, and would read the day once for each. What
# it checks of each row that is written is found by its key all the same.
READ_IN_A_ROW = text("""
    select set_config(name, value, true)
    from (values ('enable_nestloop', 'off'), ('enable_mergejoin', 'off'), ('enable_bitmapscan', 'off'),
                 ('enable_sort', 'off'), ('work_mem', '64MB')) as of (name, value)
""")
_AS_USUAL = text("""
    select set_config(name, reset_val || coalesce(unit, ''), true)
    from pg_settings
    where name in ('enable_nestloop', 'enable_mergejoin', 'enable_bitmapscan', 'enable_sort', 'work_mem')
""")
