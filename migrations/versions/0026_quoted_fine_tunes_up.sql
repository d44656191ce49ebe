-- A fine-tune may be quoted, as a batch may; and what is spent of a budget is what is billed.

alter table fine_tuning_jobs add column quote_id uuid
    constraint fk_fine_tuning_jobs_quote_id_quotes references quotes
    constraint uq_fine_tuning_jobs_quote_id unique;

-- As in 0018, but with the unit, the quote and the missed target that usage is billed by (`PRICED` in billing/usage.py).
create or replace function settle_draws(source uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    draw record;
begin
    -- What it all cost is known before anything is locked: others draw from the same accounts meanwhile.
    for draw in
        with held as (
            select d.budget_id, d.period, g.tenant_id, g.api_key_id, g.kind, g.currency, g.created_at, g.ended_at,
                   b.time_zone
            from budget_draws d
            join budgets g on g.id = d.budget_id
            join tenant_billing b on b.tenant_id = g.tenant_id and b.valid_from <= current_date
                 and (b.valid_until is null or current_date < b.valid_until)
            where d.source_id = source
        ), measured as (
            select h.budget_id, h.period, h.tenant_id, h.currency, v.id as variant_id, base.id as base_id,
                   coalesce(q.priced_at, e.started_at) as priced_at,
                   case when e.batch_id is null then u.unit else 'batch_' || u.unit end as unit, u.tokens,
                   case when u.unit = 'training' and q.currency = h.currency then q.max_cost end as max_cost
            from held h
            join usage_events e on e.source_id = source and e.tenant_id = h.tenant_id
                 and (h.api_key_id is null or e.api_key_id = h.api_key_id)
                 and e.usage_day_utc >= (h.created_at at time zone 'UTC')::date and e.started_at >= h.created_at
                 and (h.ended_at is null or e.started_at < h.ended_at)
                 and (h.kind = 'prepaid' or date_trunc('month', e.started_at at time zone h.time_zone)::date = h.period)
            join models m on m.id = e.model_id
            join model_variants v on v.model_id = e.model_id and v.tier = e.tier_served
            left join batches b on b.id = e.batch_id
            left join fine_tuning_jobs j on j.id = case
                 when e.endpoint = '/v1/fine_tuning/jobs' and e.request_id ~ '^ftjob-[0-9a-f]{32}$'
                 then substr(e.request_id, 7)::uuid end
            left join quotes q on q.id = coalesce(b.quote_id, j.quote_id)
            left join model_variants base on base.model_id = e.model_id and base.tier = 'base' and v.tier = 'fast'
                 and e.batch_id is null
                 and e.first_token_at - e.admitted_at > v.first_token_target_ms * interval '1 ms'
                 and e.prompt_tokens <= coalesce(v.first_token_target_prompt_tokens, e.prompt_tokens)
            cross join lateral (values
                ('training', case when e.endpoint = '/v1/fine_tuning/jobs' then e.prompt_tokens else 0 end),
                ('embedding', case when m.task = 'embedding' then e.prompt_tokens - e.reused_prompt_tokens else 0 end),
                ('prompt', case when m.task = 'embedding' or e.endpoint = '/v1/fine_tuning/jobs' then 0
                           else e.prompt_tokens - e.cached_tokens - e.reused_prompt_tokens end),
                ('cached_prompt', case when m.task = 'embedding' then 0 else e.cached_tokens end),
                ('completion', e.completion_tokens - e.reused_completion_tokens),
                ('reused', e.reused_prompt_tokens + e.reused_completion_tokens)) as u (unit, tokens)
            where u.tokens > 0
        ), costs as (
            select m.budget_id, m.period, sum(least(m.tokens * p.per_million / 1000000, m.max_cost)) as cost
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
                select least(coalesce(o.per_million, l.per_million), coalesce(bo.per_million, bl.per_million))
                    as per_million) p
            where coalesce(o.id, l.id) is not null
            group by 1, 2
        )
        select h.budget_id, h.period, coalesce(c.cost, 0) as cost
        from held h left join costs c using (budget_id, period)
        order by 1, 2
    loop
        update budget_accounts set spent = spent + draw.cost
        where budget_id = draw.budget_id and period = draw.period;
        delete from budget_draws
        where budget_id = draw.budget_id and period = draw.period and source_id = source;
    end loop;
end $$;
