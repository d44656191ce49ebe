"""Counting all seals of a day at once: the same rows as `usage.count` seal by seal, from one pass over the events.

Events are first added up by what can tell their prices apart (model and tier, civil day, the span in which no price
changes, batch, whether the first token was late), and only those sums are priced. Whatever asks for a look at single
events (something in quarantine, a price that is missing) is left to `usage.count`.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import windows
from billing.windows import SealKey
from studio import clock

FROM_SEALS = 16  # fewer are counted one by one: a pass over the whole day costs more than their events by an index


def count_day(session: Session, window_day: date) -> list[SealKey]:
    """Count the sealed and counted seals of a day that have nothing in question; which. They become `counted`.

    RuntimeError when not all tokens of one were counted: nothing is changed then.
    """
    start, end = clock.day_window(window_day, clock.BERLIN)
    day = {"window_day": window_day, "start": start, "end": end}
    todo = session.execute(_LOCK, day).all()
    if not todo:
        return []
    of = {"tenants": [row.tenant_id for row in todo], "seal_nos": [row.seal_no for row in todo]}
    session.execute(_DELETE, day | of)
    # Estimates know nothing of sealed ranges. Nested loops would read each source once for every tenant.
    session.execute(text("set local enable_nestloop = off"))
    session.execute(text("set local work_mem = '64MB'"))
    counted = {(row.tenant_id, row.seal_no): row for row in session.execute(_COUNT, day | of)}
    session.execute(text("set local enable_nestloop = on"))
    done = []
    for row in todo:
        found = counted.get((row.tenant_id, row.seal_no))
        if found is None or found.unpriced:
            continue
        key = SealKey(window_day, row.tenant_id, row.seal_no)
        if found.tokens != row.tokens:
            raise RuntimeError(f"the seal {key} holds {row.tokens} tokens but {found.tokens} were counted")
        done.append(key)
    windows.move_all(session, done, "counted")
    return done


_LOCK = text("""
    select w.tenant_id, w.seal_no,
           (w.manifest ->> 'prompt_tokens')::bigint + (w.manifest ->> 'completion_tokens')::bigint as tokens
    from usage_windows w
    where w.window_day = :window_day and w.state in ('sealed', 'counted')
      and not exists (
        select 1 from quarantine q
        where q.tenant_id = w.tenant_id and (q.resolved_at is null or q.decision = 'discarded'))
    order by w.tenant_id, w.seal_no
    for update
""")
_DELETE = text("""
    delete from usage_daily d
    using unnest(cast(:tenants as uuid[]), cast(:seal_nos as integer[])) as t (tenant_id, seal_no)
    where d.window_day = :window_day and d.tenant_id = t.tenant_id and d.seal_no = t.seal_no
""")

# `cuts` are the instants of the window at which some price begins or ends, so within a slice between two of them one
# instant stands for all. Terms hold from midnight to midnight of the tenant's own zone.
_COUNT = text("""
    with ranges as materialized (
        select w.tenant_id, w.seal_no, r.source_id, r.from_seq, r.until_seq
        from unnest(cast(:tenants as uuid[]), cast(:seal_nos as integer[])) as t (tenant_id, seal_no)
        join usage_windows w on w.window_day = :window_day and w.tenant_id = t.tenant_id and w.seal_no = t.seal_no
        cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
    ), cuts as materialized (
        select coalesce(array_agg(at order by at), '{}') as instants
        from (select valid_from as at from prices union select valid_until from prices) as c
        where at > :start and at < :end
    ), terms as materialized (
        select tenant_id, valid_from, time_zone, legal_entity_id, currency,
               cast(valid_from as timestamp) at time zone time_zone as starts,
               coalesce(cast(valid_until as timestamp) at time zone time_zone, 'infinity') as ends
        from tenant_billing
    ), variants as materialized (
        select v.id, v.model_id, v.tier, m.task, base.id as base_id,
               case when base.id is not null then v.first_token_target_ms * interval '1 ms' end as target,
               v.first_token_target_prompt_tokens as target_prompt
        from model_variants v
        join models m on m.id = v.model_id
        left join model_variants base on base.model_id = v.model_id and base.tier = 'base' and v.tier = 'fast'
    ), added as materialized (
        select r.tenant_id, r.seal_no, v.id as variant_id, t.valid_from as terms_from, e.batch_id,
               (e.started_at at time zone t.time_zone)::date as billing_day,
               width_bucket(e.started_at, (select instants from cuts)) as slice,
               e.endpoint = '/v1/fine_tuning/jobs' as is_training,
               coalesce(e.batch_id is null and e.first_token_at - e.admitted_at > v.target
                        and e.prompt_tokens <= coalesce(v.target_prompt, e.prompt_tokens), false) as is_late,
               sum(e.prompt_tokens) as prompt, sum(e.cached_tokens) as cached, sum(e.completion_tokens) as completion,
               sum(e.reused_prompt_tokens) as reused_prompt, sum(e.reused_completion_tokens) as reused_completion,
               count(*) filter (where e.prompt_tokens > e.reused_prompt_tokens) as read_events,
               count(*) filter (where e.prompt_tokens > e.reused_prompt_tokens + e.cached_tokens) as prompt_events,
               count(*) filter (where e.cached_tokens > 0) as cached_events,
               count(*) filter (where e.completion_tokens > e.reused_completion_tokens) as completion_events,
               count(*) filter (where e.reused_prompt_tokens + e.reused_completion_tokens > 0) as reused_events
        from usage_events e
        join ranges r on r.tenant_id = e.tenant_id and r.source_id = e.source_id
             and e.source_seq >= r.from_seq and e.source_seq < r.until_seq
        left join variants v on v.model_id = e.model_id and v.tier = e.tier_served
        left join terms t on t.tenant_id = e.tenant_id and e.started_at >= t.starts and e.started_at < t.ends
        where e.usage_day_utc between cast(:window_day as date) - 2 and cast(:window_day as date) + 2
          and e.started_at >= :start and e.started_at < :end
        group by 1, 2, 3, 4, 5, 6, 7, 8, 9
    ), measured as (
        select a.tenant_id, a.seal_no, v.id as variant_id, a.billing_day, t.time_zone, t.legal_entity_id, t.currency,
               case when a.batch_id is null then u.unit else 'batch_' || u.unit end as unit, u.tokens, u.events,
               coalesce(q.priced_at, (select instants from cuts)[a.slice], :start) as priced_at,
               case when q.id is null then '' else 'qte_' || replace(q.id::text, '-', '') end as quote,
               case when a.is_late then v.base_id end as base_id
        from added a
        left join variants v on v.id = a.variant_id
        left join terms t on t.tenant_id = a.tenant_id and t.valid_from = a.terms_from
        left join batches b on b.id = a.batch_id
        left join quotes q on q.id = b.quote_id
        cross join lateral (values
            ('training', case when a.is_training then a.prompt else 0 end, a.read_events),
            ('embedding', case when v.task = 'embedding' then a.prompt - a.reused_prompt else 0 end, a.read_events),
            ('prompt', case when v.task = 'embedding' or a.is_training then 0
                       else a.prompt - a.cached - a.reused_prompt end, a.prompt_events),
            ('cached_prompt', case when v.task = 'embedding' then 0 else a.cached end, a.cached_events),
            ('completion', a.completion - a.reused_completion, a.completion_events),
            ('reused', a.reused_prompt + a.reused_completion, a.reused_events)) as u (unit, tokens, events)
        where u.tokens > 0
    ), priced as materialized (
        select m.*, case when f.is_missed then coalesce(bo.id, bl.id) else coalesce(o.id, l.id) end as price_id,
               case when f.is_missed then 'missed_target' else m.quote end as basis
        from measured m
        left join prices l on l.tenant_id is null and l.currency = m.currency and l.variant_id = m.variant_id
             and l.unit = m.unit and l.valid_from <= m.priced_at
             and (l.valid_until is null or m.priced_at < l.valid_until)
        left join prices o on o.tenant_id = m.tenant_id and o.currency = m.currency and o.variant_id = m.variant_id
             and o.unit = m.unit and o.valid_from <= m.priced_at
             and (o.valid_until is null or m.priced_at < o.valid_until)
        left join prices bl on bl.tenant_id is null and bl.currency = m.currency and bl.variant_id = m.base_id
             and bl.unit = m.unit and bl.valid_from <= m.priced_at
             and (bl.valid_until is null or m.priced_at < bl.valid_until)
        left join prices bo on bo.tenant_id = m.tenant_id and bo.currency = m.currency and bo.variant_id = m.base_id
             and bo.unit = m.unit and bo.valid_from <= m.priced_at
             and (bo.valid_until is null or m.priced_at < bo.valid_until)
        cross join lateral (
            select coalesce(coalesce(bo.per_million, bl.per_million) < coalesce(o.per_million, l.per_million), false)
                as is_missed) f
    ), seals as materialized (
        select tenant_id, seal_no, sum(tokens)::bigint as tokens, count(*) filter (where price_id is null) as unpriced
        from priced group by tenant_id, seal_no
    ), written as (
        insert into usage_daily (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis,
                                 time_zone, legal_entity_id, currency, events, tokens)
        select cast(:window_day as date), p.tenant_id, p.seal_no, variant_id, unit, price_id, billing_day, basis,
               time_zone, legal_entity_id, currency, sum(events), sum(p.tokens)
        from priced p join seals s on s.tenant_id = p.tenant_id and s.seal_no = p.seal_no and s.unpriced = 0
        group by p.tenant_id, p.seal_no, variant_id, unit, price_id, billing_day, basis, time_zone, legal_entity_id,
                 currency
    )
    select tenant_id, seal_no, tokens, unpriced from seals
""")
