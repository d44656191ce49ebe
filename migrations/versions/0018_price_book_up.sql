-- The price book: prices of one tenant beside those of the list, cheaper tiers for volume, minimum commitments, quotes;
-- and the keys that sign receipts.

-- 1. Prices of a tenant's own -----------------------------------------------------------------------------------------

alter table prices add column tenant_id uuid constraint fk_prices_tenant_id_tenants references tenants;
alter table prices add column approved_by text;
alter table prices add column reason text;
alter table prices add constraint ck_prices_own_is_approved check (
    (tenant_id is null) = (approved_by is null) and (tenant_id is null) = (reason is null));
create index ix_prices_tenant_id on prices (tenant_id);

alter table prices drop constraint ex_prices_no_overlap;
alter table prices add constraint ex_prices_no_overlap exclude using gist (
    (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'::uuid)) with =, currency with =, variant_id with =,
    unit with =, tstzrange(valid_from, valid_until) with &&);

-- The catalog writes the list, operators write what tenants have of their own, and neither can touch the other's.
alter table prices enable row level security, force row level security;
create policy readable on prices for select
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true);
create policy own_tenant on prices for select to studio_gateway
    using (tenant_id is null or tenant_id = current_tenant());
create policy owned on prices to studio_owner using (true) with check (true);
create policy list_added on prices for insert to studio_worker with check (tenant_id is null);
create policy list_ended on prices for update to studio_worker using (tenant_id is null) with check (tenant_id is null);
create policy own_added on prices for insert to studio_operator with check (tenant_id is not null);
create policy own_ended on prices for update to studio_operator
    using (tenant_id is not null) with check (tenant_id is not null);
grant insert, update (valid_until) on prices to studio_operator;

-- What a tenant pays at an instant: its own price, else the list's.
create function price_at(tenant uuid, currency text, variant text, unit text, at timestamptz)
returns table (price_id uuid, per_million numeric)
language sql stable set search_path = public, pg_temp as $$
    select p.id, p.per_million from prices p
    where (p.tenant_id is null or p.tenant_id = tenant) and p.currency = $2 and p.variant_id = $3 and p.unit = $4
      and p.valid_from <= $5 and (p.valid_until is null or $5 < p.valid_until)
    order by p.tenant_id nulls last limit 1
$$;

-- For gateways, which reserve with them: every own price of now.
create function own_prices() returns table (tenant_id uuid, variant_id text, unit text, currency text, per_million numeric)
language sql stable security definer set search_path = public, pg_temp as $$
    select p.tenant_id, p.variant_id, p.unit, p.currency, p.per_million from prices p
    where p.tenant_id is not null and p.valid_from <= now() and (p.valid_until is null or now() < p.valid_until)
    order by 1, 2, 3, 4
$$;
revoke execute on function own_prices(), price_at(uuid, text, text, text, timestamptz) from public;
grant execute on function own_prices() to studio_gateway, studio_worker;
grant execute on function price_at(uuid, text, text, text, timestamptz) to studio_gateway, studio_worker, studio_auditor;

-- 2. Volume tiers: part of a price from its first moment --------------------------------------------------------------

create table price_tiers (
    price_id uuid not null constraint fk_price_tiers_price_id_prices references prices,
    from_tokens bigint not null constraint ck_price_tiers_above_the_first check (from_tokens > 0),
    per_million numeric(18, 6) not null constraint ck_price_tiers_not_negative check (per_million >= 0),
    primary key (price_id, from_tokens)
);

create function require_new_price() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if not exists (select from prices p where p.id = new.price_id and p.recorded_at = now()) then
        raise exception 'the price % exists already: its tiers are recorded with it, or never', new.price_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger recorded_with_its_price before insert on price_tiers for each row execute function require_new_price();
create trigger append_only before update or delete on price_tiers for each row execute function refuse_change();
create trigger append_only_truncate before truncate on price_tiers for each statement execute function refuse_change();

alter table price_tiers enable row level security, force row level security;
create policy with_its_price on price_tiers for select to studio_gateway
    using (exists (select 1 from prices p where p.id = price_id));
create policy all_tenants on price_tiers
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);
grant select on price_tiers to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant insert on price_tiers to studio_operator, studio_worker;

-- 3. Minimum commitments ----------------------------------------------------------------------------------------------

create table commitments (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_commitments_tenant_id_tenants references tenants,
    currency text not null constraint ck_commitments_currency_known check (currency in ('EUR', 'CNY')),
    amount numeric(18, 2) not null constraint ck_commitments_positive check (amount > 0),
    valid_from date not null,
    valid_until date,
    approved_by text not null,
    reason text not null,
    recorded_at timestamptz not null default now(),
    constraint ck_commitments_whole_months check (
        extract(day from valid_from) = 1 and (valid_until is null or extract(day from valid_until) = 1)),
    constraint ck_commitments_span_not_empty check (valid_until is null or valid_until > valid_from),
    constraint ex_commitments_no_overlap exclude using gist (
        tenant_id with =, daterange(valid_from, valid_until) with &&)
);
create index ix_commitments_tenant_id on commitments (tenant_id);
create trigger append_only before update or delete on commitments for each row execute function refuse_price_change();
create trigger append_only_truncate before truncate on commitments for each statement execute function refuse_change();

alter table commitments enable row level security, force row level security;
create policy own_tenant on commitments for select to studio_gateway using (tenant_id = current_tenant());
create policy all_tenants on commitments
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);
grant select on commitments to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant insert, update (valid_until) on commitments to studio_operator;

-- 4. What set a price besides the price book, and lines that no tokens stand behind ------------------------------------

-- Empty, `missed_target`, or the id of a quote.
alter table usage_daily add column basis text not null default '';
alter table usage_daily drop constraint pk_usage_daily;
alter table usage_daily add constraint pk_usage_daily
    primary key (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis);
alter table rated_lines add column basis text not null default '';
alter table rated_lines drop constraint uq_rated_lines;
alter table rated_lines add constraint uq_rated_lines
    unique (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis);
alter table invoice_lines add column basis text not null default '';
alter table invoice_lines add column tier_from_tokens bigint not null default 0;
alter table invoice_lines alter column variant_id drop not null;
alter table invoice_lines alter column price_id drop not null;
alter table invoice_lines add constraint ck_invoice_lines_adjusts_or_has_price check (
    case when unit in ('minimum_commitment', 'quote_limit') then price_id is null
         else price_id is not null and variant_id is not null and tokens >= 0 end);

-- An adjustment may be negative, and so may the line of a cancellation that takes it back.
alter table correction_lines drop constraint ck_correction_lines_exact_not_negative;
alter table correction_lines drop constraint ck_correction_lines_amount_not_negative;

-- 5. Receipts are signed by gateways, certificates are not -------------------------------------------------------------

alter table signing_keys add column purpose text not null default 'certificates'
    constraint ck_signing_keys_purpose_known check (purpose in ('certificates', 'receipts'));

create function publish_receipt_key(key_id text, key_pem text) returns void
language sql security definer set search_path = public, pg_temp as $$
    insert into signing_keys (id, public_key, purpose) values (key_id, key_pem, 'receipts') on conflict do nothing
$$;
revoke execute on function publish_receipt_key(text, text) from public;
grant execute on function publish_receipt_key(text, text) to studio_gateway;

-- 6. Budgets settle at what a tenant pays -----------------------------------------------------------------------------

-- As in 0010, with prices of the tenant's own.
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

-- 7. Quotes: a price that holds for one file, and the most that it will cost ------------------------------------------

create table quotes (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_quotes_tenant_id_tenants references tenants,
    variant_id text not null constraint fk_quotes_variant_id_model_variants references model_variants,
    input_file_id uuid not null constraint fk_quotes_input_file_id_files references files,
    endpoint text not null,
    currency text not null constraint ck_quotes_currency_known check (currency in ('EUR', 'CNY')),
    max_cost numeric(18, 2) not null constraint ck_quotes_not_negative check (max_cost >= 0),
    priced_at timestamptz not null,
    valid_until timestamptz not null,
    document jsonb not null,
    constraint ck_quotes_span_not_empty check (valid_until > priced_at)
);
create index ix_quotes_tenant_id on quotes (tenant_id);
create trigger append_only before update or delete on quotes for each row execute function refuse_change();
create trigger append_only_truncate before truncate on quotes for each statement execute function refuse_change();
alter table quotes enable row level security, force row level security;
create policy own_tenant on quotes to studio_gateway
    using (tenant_id = current_tenant()) with check (tenant_id = current_tenant());
create policy all_tenants on quotes
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);
grant select on quotes to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant insert on quotes to studio_gateway;

alter table batches add column quote_id uuid constraint fk_batches_quote_id_quotes references quotes
    constraint uq_batches_quote_id unique;

-- 8. Tier bought is tier billed: a target of the first token, and since when a request waited for nobody but us --------

alter table model_variants add column first_token_target_ms integer
    constraint ck_model_variants_first_token_target_positive check (first_token_target_ms > 0);
alter table model_variants add column first_token_target_prompt_tokens integer;
alter table usage_staging add column admitted_at timestamptz;
alter table usage_events add column admitted_at timestamptz;

-- As in 0013, with that instant.
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
            batch_id, batch_line, engine_prompt_tokens, reused_prompt_tokens, reused_completion_tokens,
            admitted_at)
        select
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line, engine_prompt_tokens, reused_prompt_tokens, reused_completion_tokens,
            admitted_at
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
