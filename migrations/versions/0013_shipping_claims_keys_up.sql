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
-- other version could not be seen yet. And what cannot be right is kept once, however often it is sent. The function is
-- changed where it stands: others add columns to it.
do $change$
declare
    body text := pg_get_functiondef('accept_usage(uuid)'::regprocedure);
    conflicts integer := position('    -- The same id with other content' in body);
    inserts integer := position('    with inserted as (' in body);
    counts integer := position('    select count(*) - accepted into known' in body);
begin
    if not (0 < conflicts and conflicts < inserts and inserts < counts) then
        raise exception 'accept_usage is not the one that this migration knows';
    end if;
    body := substr(body, 1, conflicts - 1) || substr(body, inserts, counts - inserts)
         || substr(body, conflicts, inserts - conflicts) || substr(body, counts);
    execute replace(body, 'from refused r
        returning 1', 'from refused r
        where not exists (
            select 1 from quarantine q where q.event_id = r.id and q.payload = to_jsonb(r) - ''shipment_id'' - ''row'')
        returning 1');
end $change$;

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
