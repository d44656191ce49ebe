-- Which jobs were quoted is lost.
alter table fine_tuning_jobs drop column quote_id;

-- As in 0018.
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
        ), costs as (
            select h.budget_id, h.period, sum(u.tokens * coalesce(o.per_million, l.per_million)) / 1000000 as cost
            from held h
            join usage_events e on e.source_id = source and e.tenant_id = h.tenant_id
                 and (h.api_key_id is null or e.api_key_id = h.api_key_id)
                 and e.usage_day_utc >= (h.created_at at time zone 'UTC')::date and e.started_at >= h.created_at
                 and (h.ended_at is null or e.started_at < h.ended_at)
                 and (h.kind = 'prepaid' or date_trunc('month', e.started_at at time zone h.time_zone)::date = h.period)
            join models m on m.id = e.model_id
            cross join lateral (values
                ('embedding', case when m.task = 'embedding' then e.prompt_tokens - e.reused_prompt_tokens else 0 end),
                ('prompt', case when m.task = 'embedding' then 0
                           else e.prompt_tokens - e.cached_tokens - e.reused_prompt_tokens end),
                ('cached_prompt', case when m.task = 'embedding' then 0 else e.cached_tokens end),
                ('completion', e.completion_tokens - e.reused_completion_tokens),
                ('reused', e.reused_prompt_tokens + e.reused_completion_tokens)) as u (unit, tokens)
            left join prices l on l.tenant_id is null and l.variant_id = e.variant_id
                 and l.unit = case when e.batch_id is null then '' else 'batch_' end || u.unit
                 and l.currency = h.currency
                 and l.valid_from <= e.started_at and (l.valid_until is null or e.started_at < l.valid_until)
            left join prices o on o.tenant_id = h.tenant_id and o.variant_id = e.variant_id
                 and o.unit = case when e.batch_id is null then '' else 'batch_' end || u.unit
                 and o.currency = h.currency
                 and o.valid_from <= e.started_at and (o.valid_until is null or e.started_at < o.valid_until)
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
