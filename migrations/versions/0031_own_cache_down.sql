drop function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text, uuid, boolean);
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

drop function key_permissions();
create function key_permissions() returns table (id uuid, models text[], endpoints text[], is_personal boolean)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, k.models, k.endpoints, k.user_id is not null from api_keys k where k.revoked_at is null
$$;

revoke execute on function key_permissions(),
    create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text, uuid) from public;
grant execute on function key_permissions(),
    create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text, uuid) to studio_gateway;

alter table api_keys drop column own_cache;
