-- People who sign in, what they may do where, what a key may reach, and who used what when.

create table users (
    id uuid default uuidv7() not null,
    issuer text not null,
    subject text not null,
    email text,
    name text,
    created_at timestamptz default now() not null,
    last_seen_at timestamptz default now() not null,
    constraint pk_users primary key (id),
    constraint uq_users_issuer_subject unique (issuer, subject)
);

create table memberships (
    id uuid default uuidv7() not null,
    user_id uuid not null,
    tenant_id uuid,
    role text not null,
    origin text not null,
    granted_by text,
    created_at timestamptz default now() not null,
    constraint pk_memberships primary key (id),
    constraint fk_memberships_user_id foreign key (user_id) references users (id),
    constraint fk_memberships_tenant_id foreign key (tenant_id) references tenants (id),
    constraint uq_memberships_user_id_tenant_id_role_origin unique nulls not distinct (user_id, tenant_id, role, origin),
    constraint ck_memberships_role_known check (role in ('owner', 'developer', 'finance', 'ops', 'auditor')),
    constraint ck_memberships_origin_known check (origin in ('claims', 'granted')),
    constraint ck_memberships_granted_by_somebody check ((origin = 'granted') = (granted_by is not null)),
    -- Operators work for all tenants or for none; owners and developers belong to one.
    constraint ck_memberships_role_has_its_place check (
        (tenant_id is not null or role in ('ops', 'finance', 'auditor')) and (tenant_id is null or role <> 'ops'))
);
create index ix_memberships_tenant_id on memberships (tenant_id);

alter table api_keys add column models text[];
alter table api_keys add column endpoints text[];
alter table api_keys add column user_id uuid constraint fk_api_keys_user_id references users (id);
alter table api_keys add constraint uq_api_keys_user_id_tenant_id unique (user_id, tenant_id);
alter table api_keys add constraint ck_api_keys_models_not_empty check (cardinality(models) > 0);
alter table api_keys add constraint ck_api_keys_endpoints_not_empty check (cardinality(endpoints) > 0);
alter table api_keys drop constraint ck_api_keys_scopes_known;
alter table api_keys add constraint ck_api_keys_scopes_known
    check (scopes <@ array['inference', 'usage', 'keys', 'admin']);

-- Apart from the keys: this is written all the time, and whoever caches keys need not hear of it.
create table api_key_uses (
    api_key_id uuid not null,
    tenant_id uuid not null,
    last_used_at timestamptz not null,
    constraint pk_api_key_uses primary key (api_key_id),
    constraint fk_api_key_uses_api_key_id foreign key (api_key_id) references api_keys (id),
    constraint fk_api_key_uses_tenant_id foreign key (tenant_id) references tenants (id)
);
create index ix_api_key_uses_tenant_id on api_key_uses (tenant_id);

-- What the gateway may know of all tenants --------------------------------------------------------------------------

create function key_permissions() returns table (id uuid, models text[], endpoints text[], is_personal boolean)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, k.models, k.endpoints, k.user_id is not null from api_keys k where k.revoked_at is null
$$;

create function open_tenants() returns table (id uuid, slug text)
language sql stable security definer set search_path = public, pg_temp as $$
    select t.id, t.slug from tenants t where t.closed_at is null
$$;

create function granted_memberships() returns table (issuer text, subject text, tenant_id uuid, role text)
language sql stable security definer set search_path = public, pg_temp as $$
    select u.issuer, u.subject, m.tenant_id, m.role
    from memberships m join users u on u.id = m.user_id left join tenants t on t.id = m.tenant_id
    where m.origin = 'granted' and t.closed_at is null
$$;

-- What the gateway may write of it, for its tenant and no other -------------------------------------------------------

create function audit_own(actor text, action text, subject text, details jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if current_tenant() is null then
        raise exception 'no tenant is set' using errcode = 'insufficient_privilege';
    end if;
    insert into audit_log (actor, action, subject, tenant_id, details)
    values (actor, action, subject, current_tenant(), details);
end $$;

-- Such a key makes no others: they would be free of what holds it back.
create function has_limits_of_its_own(key_id uuid) returns boolean
language sql stable security definer set search_path = public, pg_temp as $$
    select exists (select 1 from limits l where l.api_key_id = key_id and l.tenant_id = current_tenant())
        or exists (select 1 from budgets b
                   where b.api_key_id = key_id and b.tenant_id = current_tenant() and b.ended_at is null)
$$;

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

-- Neither keys of operators nor what stands for a person who signs in is the tenant's to end.
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

create function record_key_uses(keys uuid[], at timestamptz[]) returns void
language sql security definer set search_path = public, pg_temp as $$
    insert into api_key_uses (api_key_id, tenant_id, last_used_at)
    select k.id, k.tenant_id, u.at from unnest(keys, at) as u (id, at) join api_keys k on k.id = u.id
    order by k.id
    on conflict (api_key_id) do update set last_used_at = greatest(api_key_uses.last_used_at, excluded.last_used_at)
$$;

-- Somebody with a token of the provider: remembered with what the token says, and given a key of their own in the
-- tenant that they act for. Nobody knows that key's text; it is what usage, limits and budgets of a person hang on.
create function record_sign_in(
    issuer text, subject text, email text, name text, tenant uuid, claimed jsonb,
    out user_id uuid, out api_key_id uuid, out prefix text, out is_ended boolean)
language plpgsql security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
declare
    is_new boolean;
begin
    insert into users as u (issuer, subject, email, name)
    values (record_sign_in.issuer, record_sign_in.subject, record_sign_in.email, record_sign_in.name)
    on conflict (issuer, subject) do update
        set email = excluded.email, name = excluded.name, last_seen_at = greatest(u.last_seen_at, now())
    returning u.id, xmax = 0 into user_id, is_new;
    if is_new then
        insert into audit_log (actor, action, subject, tenant_id, details)
        values ('oidc:' || record_sign_in.issuer || '#' || record_sign_in.subject, 'user.first_sign_in',
                'usr_' || replace(user_id::text, '-', ''), tenant, '{}');
    end if;

    delete from memberships m
    where m.user_id = record_sign_in.user_id and m.origin = 'claims' and not exists (
        select 1 from jsonb_to_recordset(claimed) as c (tenant_id uuid, role text)
        where c.tenant_id is not distinct from m.tenant_id and c.role = m.role);
    insert into memberships (user_id, tenant_id, role, origin)
    select record_sign_in.user_id, c.tenant_id, c.role, 'claims'
    from jsonb_to_recordset(claimed) as c (tenant_id uuid, role text)
    on conflict do nothing;

    if tenant is not null then
        -- Asked first: even an insert of nothing would tell every gateway to read all keys again.
        if not exists (select 1 from api_keys k where k.user_id = record_sign_in.user_id and k.tenant_id = tenant) then
            insert into api_keys (tenant_id, name, prefix, secret_hash, scopes, user_id)
            values (tenant, 'sign-in of ' || coalesce(record_sign_in.email, record_sign_in.subject),
                    'usr_' || right(user_id::text, 12),
                    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), '{inference,usage}', user_id)
            on conflict (user_id, tenant_id) do nothing;
        end if;
        select k.id, k.prefix, k.revoked_at is not null into api_key_id, prefix, is_ended
        from api_keys k where k.user_id = record_sign_in.user_id and k.tenant_id = tenant;
    end if;
end $$;

create trigger notify_identity after insert or update on tenants
    for each statement execute function notify_channel('studio_identity');
create trigger notify_identity_granted after insert on memberships
    for each row when (new.origin = 'granted') execute function notify_channel('studio_identity');
create trigger notify_identity_revoked after delete on memberships
    for each row when (old.origin = 'granted') execute function notify_channel('studio_identity');

-- Row-level security and grants ---------------------------------------------------------------------------------------

alter table memberships enable row level security, force row level security;
create policy all_tenants on memberships
    to studio_owner, studio_operator, studio_auditor using (true) with check (true);
alter table api_key_uses enable row level security, force row level security;
create policy own_tenant on api_key_uses for select to studio_gateway using (tenant_id = current_tenant());
create policy all_tenants on api_key_uses
    to studio_owner, studio_operator, studio_auditor using (true) with check (true);

revoke execute on function key_permissions(), open_tenants(), granted_memberships(), audit_own(text, text, text, jsonb),
    has_limits_of_its_own(uuid), create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text), revoke_own_key(uuid, text),
    record_key_uses(uuid[], timestamptz[]), record_sign_in(text, text, text, text, uuid, jsonb) from public;
grant execute on function key_permissions(), open_tenants(), granted_memberships(), audit_own(text, text, text, jsonb),
    has_limits_of_its_own(uuid), create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text), revoke_own_key(uuid, text),
    record_key_uses(uuid[], timestamptz[]), record_sign_in(text, text, text, text, uuid, jsonb) to studio_gateway;

grant select (models, endpoints, user_id) on api_keys to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant select on api_key_uses to studio_gateway, studio_operator, studio_auditor;
grant select on users, memberships to studio_operator, studio_auditor;
grant insert, delete on memberships to studio_operator;
