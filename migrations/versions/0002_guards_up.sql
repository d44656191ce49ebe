create extension if not exists btree_gist;

-- 1. No overlap in anything effective-dated ---------------------------------------------------------------------------

alter table prices add constraint ex_prices_no_overlap
    exclude using gist (currency with =, variant_id with =, unit with =, tstzrange(valid_from, valid_until) with &&);
alter table tenant_billing add constraint ex_tenant_billing_no_overlap
    exclude using gist (tenant_id with =, daterange(valid_from, valid_until) with &&);
alter table tax_rates add constraint ex_tax_rates_no_overlap
    exclude using gist (country with =, category with =, daterange(valid_from, valid_until) with &&);

create function minutes_of_day(t time) returns integer language sql immutable
    as $$ select (extract(epoch from t) / 60)::integer $$;
alter table opening_hours add constraint ex_opening_hours_no_overlap exclude using gist
    (calendar_id with =, weekday with =, int4range(minutes_of_day(opens), minutes_of_day(closes)) with &&);

-- 2. Partitions of usage_events ---------------------------------------------------------------------------------------

create table usage_events_default partition of usage_events default;

create function ensure_usage_partition(day date) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := 'usage_events_' || to_char(day, 'YYYYMMDD');
begin
    -- Days far from today come from a broken clock. They stay in the default partition, where somebody will look.
    if to_regclass(partition) is not null or day not between current_date - 400 and current_date + 2 then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('ensure_usage_partition'));
    if to_regclass(partition) is null then
        execute format('create table %I partition of usage_events for values from (%L) to (%L)', partition, day, day + 1);
    end if;
end $$;

-- 3. The way of a shipment into usage_events --------------------------------------------------------------------------

create function accept_usage(shipment uuid, out accepted bigint, out known bigint, out quarantined bigint)
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
                   and s.end_reason in ('complete', 'client_left', 'engine_died', 'budget', 'rejected')
                   and s.usage_origin in ('engine', 'count'))
        returning s.*
    ), kept as (
        insert into quarantine (reason, event_id, tenant_id, payload)
        select 'tokens or reasons out of range', r.id, r.tenant_id, to_jsonb(r) - 'shipment_id' - 'row' from refused r
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
            batch_id, batch_line)
        select
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line
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

-- 4. What the gateway may know of all tenants: key hashes and limits, never rows --------------------------------------

create function api_key_snapshot()
returns table (id uuid, secret_hash bytea, prefix text, tenant_id uuid, tenant_slug text, scopes text[],
               requests_per_second integer, credit numeric, expires_at timestamptz)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, k.secret_hash, k.prefix, k.tenant_id, t.slug, k.scopes, k.requests_per_second, k.credit, k.expires_at
    from api_keys k join tenants t on t.id = k.tenant_id
    where k.revoked_at is null and t.closed_at is null and (k.expires_at is null or k.expires_at > now())
$$;

create function current_tenant() returns uuid
language sql stable set search_path = public, pg_temp as $$
    select nullif(current_setting('studio.tenant_id', true), '')::uuid
$$;

-- What keys with a credit of their own have spent, in their tenant's currency, but for those known already: a gateway
-- asks for each key once.
create function key_spending(known uuid[])
returns table (api_key_id uuid, currency text, credit numeric, spent numeric)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, b.currency, k.credit, coalesce((
        select sum(u.tokens * p.per_million) / 1000000
        from usage_events e
        join models m on m.id = e.model_id
        cross join lateral (values
            ('embedding', case when m.task = 'embedding' then e.prompt_tokens else 0 end),
            ('prompt', case when m.task = 'embedding' then 0 else e.prompt_tokens - e.cached_tokens end),
            ('cached_prompt', case when m.task = 'embedding' then 0 else e.cached_tokens end),
            ('completion', e.completion_tokens)) as u (unit, tokens)
        join prices p on p.variant_id = e.variant_id and p.unit = u.unit and p.currency = b.currency
             and p.valid_from <= e.started_at and (p.valid_until is null or e.started_at < p.valid_until)
        where e.api_key_id = k.id and e.tenant_id = k.tenant_id and e.started_at >= k.created_at
          and e.usage_day_utc >= (k.created_at at time zone 'UTC')::date), 0)
    from api_keys k
    join tenant_billing b on b.tenant_id = k.tenant_id and b.valid_from <= current_date
         and (b.valid_until is null or current_date < b.valid_until)
    where k.credit is not null and k.revoked_at is null and k.id <> all (known)
$$;

-- Which adapter names lead where. The gateway checks the tenant itself, as it does for keys.
create function served_adapters()
returns table (id uuid, tenant_id uuid, variant_id text, name text, engine_name text, created_at timestamptz,
               replicas uuid[])
language sql stable security definer set search_path = public, pg_temp as $$
    select a.id, a.tenant_id, a.variant_id, a.name, a.engine_name, a.created_at,
           array(select l.replica_id from loaded_adapters l where l.adapter_id = a.id and l.error is null)
    from adapters a where a.deleted_at is null
$$;

-- 5. Whoever caches these tables hears of changes ---------------------------------------------------------------------

create function notify_channel() returns trigger language plpgsql as $$
begin
    perform pg_notify(tg_argv[0], '');
    return null;
end $$;

create trigger notify_keys after insert or update or delete on api_keys
    for each statement execute function notify_channel('studio_keys');
create trigger notify_keys after update on tenants
    for each statement execute function notify_channel('studio_keys');
create trigger notify_fleet after insert or update or delete on models
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on model_variants
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on prices
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on replicas
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on desired_replicas
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on adapters
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on loaded_adapters
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on hours_overrides
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on clock_offset
    for each statement execute function notify_channel('studio_fleet');

-- 6. Append-only, and final means final -------------------------------------------------------------------------------

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % refused', tg_table_name, lower(tg_op) using errcode = 'restrict_violation';
end $$;

do $$
declare
    append_only text;
begin
    foreach append_only in array array['usage_events', 'rated_lines', 'audit_log', 'engine_counters', 'reconciliations',
                                     'fine_tuning_events']
    loop
        execute format('create trigger append_only before update or delete on %I for each row
                        execute function refuse_change()', append_only);
        execute format('create trigger append_only_truncate before truncate on %I for each statement
                        execute function refuse_change()', append_only);
    end loop;
end $$;

create function refuse_price_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or (to_jsonb(new) - 'valid_until') <> (to_jsonb(old) - 'valid_until')
       or old.valid_until is not null then
        raise exception 'a price row only ever receives its end: % of % refused', lower(tg_op), old.id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger append_only before update or delete on prices for each row execute function refuse_price_change();

create function refuse_final_invoice_change() returns trigger language plpgsql as $$
begin
    if old.state = 'final' then
        raise exception 'invoice % is final: % refused', old.number, lower(tg_op) using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;
create trigger final_is_final before update or delete on invoices
    for each row execute function refuse_final_invoice_change();

create function refuse_final_line_change() returns trigger language plpgsql as $$
declare
    parent uuid := case tg_op when 'DELETE' then old.invoice_id else new.invoice_id end;
    parent_state text;
begin
    -- FOR SHARE: adding a line and finalising at once must wait for each other.
    select state into parent_state from invoices where id = parent for share;
    if parent_state = 'final' then
        raise exception 'invoice % is final: % of a line refused', parent, lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;
create trigger final_is_final before insert or update or delete on invoice_lines
    for each row execute function refuse_final_line_change();
create trigger final_is_final before insert or update or delete on invoiced_lines
    for each row execute function refuse_final_line_change();
create trigger no_truncate before truncate on invoices for each statement execute function refuse_change();
create trigger no_truncate before truncate on invoice_lines for each statement execute function refuse_change();
create trigger no_truncate before truncate on invoiced_lines for each statement execute function refuse_change();
create trigger no_truncate before truncate on prices for each statement execute function refuse_change();

-- 7. Row-level security: a gateway transaction sees one tenant, or nothing --------------------------------------------

do $$
declare
    scoped text;
begin
    foreach scoped in array array['tenant_billing', 'api_keys', 'usage_events', 'usage_windows', 'usage_daily',
                                  'rated_lines', 'account_statements', 'invoice_requests', 'invoices']
    loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy own_tenant on %I for select to studio_gateway
                        using (tenant_id = current_tenant())', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;

    -- Jobs that a tenant creates through the gateway itself: its own rows, and only those.
    foreach scoped in array array['files', 'batches', 'batch_shards', 'fine_tuning_jobs', 'fine_tuning_events', 'adapters']
    loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy own_tenant on %I to studio_gateway
                        using (tenant_id = current_tenant()) with check (tenant_id = current_tenant())', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
    execute 'create policy all_tenants_of_a_node on adapters for select to studio_node_agent using (true)';

    execute 'alter table tenants enable row level security, force row level security';
    execute 'create policy own_tenant on tenants for select to studio_gateway using (id = current_tenant())';
    execute 'create policy all_tenants on tenants
             to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)';

    -- The children of an invoice follow the invoice: the subquery is itself under row-level security.
    foreach scoped in array array['invoice_lines', 'invoiced_lines', 'invoice_documents'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy own_tenant on %I for select to studio_gateway
                        using (exists (select 1 from invoices i where i.id = invoice_id))', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
end $$;

-- 8. Grants, role by role. tests/studio/test_roles.py names what each may not do ---------------------------------------

grant usage on schema public
    to studio_gateway, studio_operator, studio_shipper, studio_worker, studio_node_agent, studio_auditor;
revoke execute on function accept_usage(uuid), ensure_usage_partition(date), api_key_snapshot(), served_adapters(),
    key_spending(uuid[]) from public;

grant select on models, model_variants, prices, desired_replicas, replicas, warmups, catalog_syncs, legal_entities,
    tenants, tenant_billing, usage_events, usage_windows, usage_daily, rated_lines, account_statements, invoices,
    invoice_lines, invoiced_lines, invoice_documents to studio_gateway;
grant select (id, tenant_id, name, prefix, scopes, requests_per_second, credit, created_at, expires_at, revoked_at)
    on api_keys to studio_gateway;
grant execute on function api_key_snapshot() to studio_gateway;

grant select on calendars, opening_hours, holidays, hours_overrides, clock_offset, files, batches, fine_tuning_jobs,
    fine_tuning_events, adapters, loaded_adapters to studio_gateway;
grant insert on files, batches, fine_tuning_jobs to studio_gateway;
grant update (deleted_at) on files to studio_gateway;
grant update (state, cancelling_at) on batches to studio_gateway;
grant update (cancel_requested_at) on fine_tuning_jobs to studio_gateway;
grant update (deleted_at) on adapters to studio_gateway;
grant execute on function served_adapters(), key_spending(uuid[]) to studio_gateway;

grant insert on usage_staging to studio_shipper;
grant select, insert, update on usage_sources to studio_shipper;
grant execute on function accept_usage(uuid) to studio_shipper;

grant select on all tables in schema public to studio_worker;
revoke select on api_keys, usage_staging from studio_worker;
grant insert, update on models, model_variants, legal_entities, tax_rates to studio_worker;
grant insert, update (valid_until) on prices to studio_worker;
grant insert on catalog_syncs, quarantine, rated_lines, reconciliations, audit_log, invoice_documents to studio_worker;
grant insert, update, delete on desired_replicas, usage_daily, account_statements, invoices, invoice_lines,
    invoiced_lines to studio_worker;
grant insert, update on usage_windows, invoice_requests, number_series to studio_worker;
grant update (executed_at) on approvals to studio_worker;
grant update (resolved_at) on quarantine to studio_worker;

grant select on models, model_variants, prices, desired_replicas, replicas, warmups, engine_counters, catalog_syncs,
    legal_entities, tax_rates, tenants, tenant_billing, usage_sources, usage_events, usage_windows, usage_daily,
    quarantine, rated_lines, account_statements, invoice_requests, invoices, invoice_lines, invoiced_lines,
    invoice_documents, approvals, reconciliations, audit_log to studio_operator;
grant select (id, tenant_id, name, prefix, scopes, requests_per_second, credit, created_at, expires_at, revoked_at)
    on api_keys to studio_operator;
grant insert on tenants, tenant_billing, api_keys, audit_log, approvals, invoice_requests, usage_windows, replicas
    to studio_operator;
grant update (closed_at, name) on tenants to studio_operator;
grant update (valid_until) on tenant_billing to studio_operator;
grant update (revoked_at) on api_keys to studio_operator;
grant update (state, reason, stopped_at, ready_at) on replicas to studio_operator;

-- Batches commit their usage with their results, by the same way as everybody else's usage.
grant insert on usage_staging to studio_worker;
grant insert, update on usage_sources to studio_worker;
grant execute on function accept_usage(uuid) to studio_worker;
grant insert, update, delete on calendars, opening_hours, holidays, batch_shards to studio_worker;
grant insert, update on hours_overrides, files, batches, fine_tuning_jobs, adapters to studio_worker;
grant insert on fine_tuning_events to studio_worker;

grant select on calendars, opening_hours, holidays, hours_overrides, clock_offset, files, batches, fine_tuning_jobs,
    adapters, loaded_adapters to studio_operator;
grant insert, update (ends_at) on hours_overrides to studio_operator;
grant insert, update, delete on clock_offset to studio_operator;

grant select on adapters, loaded_adapters to studio_node_agent;
grant insert, update, delete on loaded_adapters to studio_node_agent;
grant select on models, model_variants, desired_replicas, replicas, warmups to studio_node_agent;
grant insert, update on replicas to studio_node_agent;
grant insert on warmups, engine_counters to studio_node_agent;

grant select on all tables in schema public to studio_auditor;
revoke select on api_keys, usage_staging from studio_auditor;
grant select (id, tenant_id, name, prefix, scopes, requests_per_second, credit, created_at, expires_at, revoked_at)
    on api_keys to studio_worker, studio_auditor;
