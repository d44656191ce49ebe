-- The nightly proof that tenants are isolated: canaries, certificates, and the public keys to check them with.

-- A tenant of ours: nobody seals its usage, so nothing of it is ever counted, rated or invoiced.
alter table tenants add column is_internal boolean not null default false;
update tenants set is_internal = true where slug = 'house';

create table signing_keys (
    id text not null,
    public_key text not null,
    created_at timestamptz not null default now(),
    constraint pk_signing_keys primary key (id)
);
create trigger append_only before update or delete on signing_keys for each row execute function refuse_change();
create trigger append_only_truncate before truncate on signing_keys for each statement execute function refuse_change();

create table isolation_certificates (
    id uuid not null default uuidv7(),
    tenant_id uuid not null,
    result text not null,
    began_at timestamptz not null,
    ended_at timestamptz not null,
    document text not null,
    signature bytea not null,
    key_id text not null,
    constraint pk_isolation_certificates primary key (id),
    constraint fk_isolation_certificates_tenant_id foreign key (tenant_id) references tenants (id),
    constraint fk_isolation_certificates_key_id foreign key (key_id) references signing_keys (id),
    constraint ck_isolation_certificates_result_known check (result in ('passed', 'incomplete', 'failed'))
);
create index ix_isolation_certificates_tenant_id on isolation_certificates (tenant_id);
create trigger append_only before update or delete on isolation_certificates
    for each row execute function refuse_change();
create trigger append_only_truncate before truncate on isolation_certificates
    for each statement execute function refuse_change();

alter table isolation_certificates enable row level security, force row level security;
create policy own_tenant on isolation_certificates for select to studio_gateway using (tenant_id = current_tenant());
create policy all_tenants on isolation_certificates
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);

grant select on isolation_certificates, signing_keys to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant insert on isolation_certificates, signing_keys to studio_worker;

-- Dagster makes no keys, but for these two tenants: for an hour, and only by its digest.
create function open_canary(canary text, key_id uuid, key_prefix text, key_hash bytea) returns uuid
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    found uuid;
begin
    if canary not in ('isolation-canary-a', 'isolation-canary-b') then
        raise exception 'permission denied: % is no canary', canary using errcode = 'insufficient_privilege';
    end if;
    -- Asked first: even an insert of nothing would tell every gateway to read all tenants again.
    if not exists (select 1 from tenants where slug = canary) then
        insert into tenants (slug, name, is_internal) values (canary, 'Canary of the nightly isolation probe', true)
        on conflict (slug) do nothing;
    end if;
    select t.id into found from tenants t where t.slug = canary and t.is_internal and t.closed_at is null;
    if found is null then
        raise exception 'the tenant % is not ours: give it another name', canary using errcode = 'unique_violation';
    end if;
    insert into api_keys (id, tenant_id, name, prefix, secret_hash, scopes, expires_at)
    values (key_id, found, 'nightly isolation probe', key_prefix, key_hash, '{inference,keys,usage}',
            now() + interval '1 hour');
    insert into audit_log (actor, action, subject, tenant_id, details)
    values ('isolation', 'key.create', key_prefix, found, '{}');
    return found;
end $$;

create function close_canaries() returns bigint
language sql security definer set search_path = public, pg_temp as $$
    with ended as (
        update api_keys k set revoked_at = now()
        from tenants t
        where t.id = k.tenant_id and t.is_internal and k.revoked_at is null
          and t.slug in ('isolation-canary-a', 'isolation-canary-b')
        returning k.prefix, k.tenant_id
    ), noted as (
        insert into audit_log (actor, action, subject, tenant_id, details)
        select 'isolation', 'key.revoke', prefix, tenant_id, '{}' from ended
        returning 1
    )
    select count(*) from noted
$$;
revoke execute on function open_canary(text, uuid, text, bytea), close_canaries() from public;
grant execute on function open_canary(text, uuid, text, bytea), close_canaries() to studio_worker;
