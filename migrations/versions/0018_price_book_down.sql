-- Prices of tenants' own, tiers, commitments and quotes are lost; refused once an invoice was drafted with an adjustment.

-- As in 0010.
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
            select h.budget_id, h.period, sum(u.tokens * p.per_million) / 1000000 as cost
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
            join prices p on p.variant_id = e.variant_id
                 and p.unit = case when e.batch_id is null then '' else 'batch_' end || u.unit
                 and p.currency = h.currency
                 and p.valid_from <= e.started_at and (p.valid_until is null or e.started_at < p.valid_until)
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

-- As in 0010.
create or replace function accept_usage(shipment uuid, out accepted bigint, out known bigint, out quarantined bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    day date;
begin
    quarantined := 0;
    for day in select distinct usage_day_utc from usage_staging where shipment_id = shipment loop
        perform ensure_usage_partition(day);
    end loop;

    with refused as (
        delete from usage_staging s
        where s.shipment_id = shipment
          and not (s.prompt_tokens >= 0 and s.completion_tokens >= 0
                   and s.cached_tokens between 0 and s.prompt_tokens
                   and s.reasoning_tokens between 0 and s.completion_tokens
                   and s.reused_prompt_tokens between 0 and s.prompt_tokens - s.cached_tokens
                   and s.reused_completion_tokens between 0 and s.completion_tokens
                   and (s.replica_id is not null or (s.reused_prompt_tokens = s.prompt_tokens
                                                     and s.reused_completion_tokens = s.completion_tokens))
                   and s.end_reason in ('complete', 'client_left', 'engine_died', 'budget', 'rejected')
                   and s.usage_origin in ('engine', 'count'))
        returning s.*
    ), kept as (
        insert into quarantine (reason, event_id, tenant_id, payload)
        select 'tokens or reasons out of range', r.id, r.tenant_id, to_jsonb(r) - 'shipment_id' - 'row' from refused r
        where not exists (
            select 1 from quarantine q where q.event_id = r.id and q.payload = to_jsonb(r) - 'shipment_id' - 'row')
        returning 1
    )
    select quarantined + count(*) into quarantined from kept;

    -- The same id with other content: neither version wins. Both stand in quarantine, and an event with an unresolved
    -- entry there is not counted. A replay of the same conflict adds nothing.
    with conflicting as (
        select to_jsonb(s) - 'shipment_id' - 'row' as arrived, to_jsonb(e) - 'ingested_at' as stored, e.id, e.tenant_id
        from usage_staging s join usage_events e using (usage_day_utc, id)
        where s.shipment_id = shipment
    ), kept as (
        insert into quarantine (reason, event_id, tenant_id, payload)
        select 'same id, other content', c.id, c.tenant_id, jsonb_build_object('stored', stored, 'arrived', arrived)
        from conflicting c
        where c.arrived <> c.stored
          and not exists (select 1 from quarantine q where q.event_id = c.id and q.payload -> 'arrived' = c.arrived)
        returning 1
    )
    select quarantined + count(*) into quarantined from kept;

    with inserted as (
        insert into usage_events (
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line, engine_prompt_tokens, reused_prompt_tokens, reused_completion_tokens)
        select
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line, engine_prompt_tokens, reused_prompt_tokens, reused_completion_tokens
        from usage_staging where shipment_id = shipment
        order by row
        on conflict do nothing
        returning source_id, source_seq
    ), advanced as (
        update usage_sources u set last_seq = greatest(u.last_seq, i.seq)
        from (select source_id, max(source_seq) as seq from usage_staging where shipment_id = shipment group by 1) i
        where u.id = i.source_id
    )
    select count(*) into accepted from inserted;

    select count(*) - accepted into known from usage_staging where shipment_id = shipment;
    delete from usage_staging where shipment_id = shipment;
end $$;
alter table usage_events drop column admitted_at;
alter table usage_staging drop column admitted_at;
alter table model_variants drop column first_token_target_prompt_tokens;
alter table model_variants drop column first_token_target_ms;

alter table batches drop column quote_id;
drop table quotes;
drop function publish_receipt_key(text, text);
alter table signing_keys disable trigger append_only;
delete from signing_keys where purpose = 'receipts';
alter table signing_keys enable trigger append_only;
alter table signing_keys drop column purpose;

alter table correction_lines add constraint ck_correction_lines_exact_not_negative check (exact >= 0);
alter table correction_lines add constraint ck_correction_lines_amount_not_negative check (amount >= 0);
alter table invoice_lines drop constraint ck_invoice_lines_adjusts_or_has_price;
alter table invoice_lines alter column price_id set not null;
alter table invoice_lines alter column variant_id set not null;
alter table invoice_lines drop column tier_from_tokens;
alter table invoice_lines drop column basis;
alter table rated_lines drop constraint uq_rated_lines;
alter table rated_lines drop column basis;
alter table rated_lines add constraint uq_rated_lines
    unique (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day);
alter table usage_daily drop constraint pk_usage_daily;
alter table usage_daily drop column basis;
alter table usage_daily add constraint pk_usage_daily
    primary key (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day);

drop table commitments;
drop table price_tiers;
drop function require_new_price();
drop function own_prices();
drop function price_at(uuid, text, text, text, timestamptz);
alter table prices disable trigger append_only;
delete from prices where tenant_id is not null;
alter table prices enable trigger append_only;
drop policy readable on prices;
drop policy own_tenant on prices;
drop policy owned on prices;
drop policy list_added on prices;
drop policy list_ended on prices;
drop policy own_added on prices;
drop policy own_ended on prices;
alter table prices no force row level security, disable row level security;
revoke insert, update on prices from studio_operator;
revoke update (valid_until) on prices from studio_operator;
alter table prices drop constraint ex_prices_no_overlap;
alter table prices drop constraint ck_prices_own_is_approved;
alter table prices drop column tenant_id, drop column approved_by, drop column reason;
alter table prices add constraint ex_prices_no_overlap
    exclude using gist (currency with =, variant_id with =, unit with =, tstzrange(valid_from, valid_until) with &&);
