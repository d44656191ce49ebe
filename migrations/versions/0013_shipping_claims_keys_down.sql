drop function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text, uuid);
create function create_own_key(id uuid, name text, prefix text, secret_hash bytea, scopes text[], models text[],
                               endpoints text[], expires_at timestamptz, actor text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if 'admin' = any (scopes) then
        raise exception 'a tenant makes no administrators' using errcode = 'insufficient_privilege';
    end if;
    perform audit_own(actor, 'key.create', prefix, jsonb_build_object(
        'name', name, 'scopes', scopes, 'models', models, 'endpoints', endpoints, 'expires_at', expires_at));
    insert into api_keys (id, tenant_id, name, prefix, secret_hash, scopes, models, endpoints, expires_at)
    values (id, current_tenant(), name, prefix, secret_hash, scopes, models, endpoints, expires_at);
end $$;

drop function revoke_own_key(uuid, text, uuid);
create function revoke_own_key(key_id uuid, actor text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    found_prefix text;
begin
    update api_keys k set revoked_at = now()
    where k.id = key_id and k.tenant_id = current_tenant() and k.revoked_at is null and k.user_id is null
      and not 'admin' = any (k.scopes)
    returning k.prefix into found_prefix;
    if found_prefix is null then
        return false;
    end if;
    perform audit_own(actor, 'key.revoke', found_prefix, '{}');
    return true;
end $$;

revoke execute on function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text),
    revoke_own_key(uuid, text) from public;
grant execute on function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text),
    revoke_own_key(uuid, text) to studio_gateway;
alter table api_keys drop column made_by;

alter table idempotent_answers rename column claim_id to runs_at;

do $change$
declare
    body text := pg_get_functiondef('accept_usage(uuid)'::regprocedure);
    inserts integer := position('    with inserted as (' in body);
    conflicts integer := position('    -- The same id with other content' in body);
    counts integer := position('    select count(*) - accepted into known' in body);
begin
    if not (0 < inserts and inserts < conflicts and conflicts < counts) then
        raise exception 'accept_usage is not the one that this migration knows';
    end if;
    body := substr(body, 1, inserts - 1) || substr(body, conflicts, counts - conflicts)
         || substr(body, inserts, conflicts - inserts) || substr(body, counts);
    execute replace(body, 'from refused r
        where not exists (
            select 1 from quarantine q where q.event_id = r.id and q.payload = to_jsonb(r) - ''shipment_id'' - ''row'')
        returning 1', 'from refused r
        returning 1');
end $change$;

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
    if to_regclass(partition) is null then
        execute format('create table %I partition of usage_events for values from (%L) to (%L)', partition, day, day + 1);
    end if;
end $$;
