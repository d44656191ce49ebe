-- Shipments of the same event that meet, days that a broken clock has touched before, whose an idempotent request is, and
-- who made a key.

create or replace function ensure_usage_partition(day date) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := 'usage_events_' || to_char(day, 'YYYYMMDD');
begin
    -- Days far from today come from a broken clock. They stay in the default partition, where somebody will look.
    if to_regclass(partition) is not null or day not between current_date - 400 and current_date + 2 then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('ensure_usage_partition'));
    -- Where a broken clock was here first, the day stays in the default partition: it cannot be split off any more.
    if to_regclass(partition) is null
       and not exists (select 1 from usage_events_default d where d.usage_day_utc = day) then
        execute format('create table %I partition of usage_events for values from (%L) to (%L)', partition, day, day + 1);
    end if;
end $$;

-- Conflicts are looked for after the insert, which waits for whoever ships the same id at the same time: before it, the
-- other version could not be seen yet. And what cannot be right is kept once, however often it is sent.
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

    select count(*) - accepted into known from usage_staging where shipment_id = shipment;
    delete from usage_staging where shipment_id = shipment;
end $$;

-- A claim belongs to one run of a request, not to a gateway, which may run the same request twice.
alter table idempotent_answers rename column runs_at to claim_id;

-- Who made a key may end it. Of people it is the key that stands for them in the tenant.
alter table api_keys add column made_by uuid constraint fk_api_keys_made_by references api_keys;
grant select (made_by) on api_keys to studio_gateway, studio_operator, studio_worker, studio_auditor;

drop function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text);
create function create_own_key(id uuid, name text, prefix text, secret_hash bytea, scopes text[], models text[],
                               endpoints text[], expires_at timestamptz, actor text, made_by uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if 'admin' = any (scopes) then
        raise exception 'a tenant makes no administrators' using errcode = 'insufficient_privilege';
    end if;
    perform audit_own(actor, 'key.create', prefix, jsonb_build_object(
        'name', name, 'scopes', scopes, 'models', models, 'endpoints', endpoints, 'expires_at', expires_at));
    insert into api_keys (id, tenant_id, name, prefix, secret_hash, scopes, models, endpoints, expires_at, made_by)
    values (id, current_tenant(), name, prefix, secret_hash, scopes, models, endpoints, expires_at, made_by);
end $$;

-- Neither keys of operators nor what stands for a person who signs in is the tenant's to end. `maker`: whose keys; null
-- for those of everybody in the tenant.
drop function revoke_own_key(uuid, text);
create function revoke_own_key(key_id uuid, actor text, maker uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    found_prefix text;
begin
    update api_keys k set revoked_at = now()
    where k.id = key_id and k.tenant_id = current_tenant() and k.revoked_at is null and k.user_id is null
      and not 'admin' = any (k.scopes) and (maker is null or k.made_by = maker)
    returning k.prefix into found_prefix;
    if found_prefix is null then
        return false;
    end if;
    perform audit_own(actor, 'key.revoke', found_prefix, '{}');
    return true;
end $$;

revoke execute on function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text, uuid),
    revoke_own_key(uuid, text, uuid) from public;
grant execute on function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text, uuid),
    revoke_own_key(uuid, text, uuid) to studio_gateway;
