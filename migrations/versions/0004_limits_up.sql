-- Limits on requests, tokens and concurrency, of tenants, keys and models. All rows that match a request must allow it.

create table limits (
    id uuid default uuidv7() not null,
    tenant_id uuid not null,
    api_key_id uuid,
    variant_id text,
    requests_per_second integer,
    requests_per_minute integer,
    tokens_per_minute bigint,
    concurrent_requests integer,
    created_at timestamptz default now() not null,
    constraint pk_limits primary key (id),
    constraint fk_limits_tenant_id foreign key (tenant_id) references tenants (id),
    constraint fk_limits_api_key_id foreign key (api_key_id) references api_keys (id),
    constraint fk_limits_variant_id foreign key (variant_id) references model_variants (id),
    constraint uq_limits_tenant_id_api_key_id_variant_id
        unique nulls not distinct (tenant_id, api_key_id, variant_id),
    constraint ck_limits_requests_per_second_positive check (requests_per_second > 0),
    constraint ck_limits_requests_per_minute_positive check (requests_per_minute > 0),
    -- The upper bound keeps a level of tokens and milliseconds exact in the doubles that Valkey's scripts reckon with.
    constraint ck_limits_tokens_per_minute_in_range check (tokens_per_minute between 1 and 100000000000),
    constraint ck_limits_concurrent_requests_positive check (concurrent_requests > 0),
    constraint ck_limits_limits_something check (
        num_nonnulls(requests_per_second, requests_per_minute, tokens_per_minute, concurrent_requests) > 0)
);
create index ix_limits_api_key_id on limits (api_key_id);

insert into limits (tenant_id, api_key_id, requests_per_second)
select tenant_id, id, requests_per_second from api_keys where requests_per_second is not null;

-- What gateways know of keys, without what is a limit now.
drop function api_key_snapshot();
alter table api_keys drop column requests_per_second;
create function api_key_snapshot()
returns table (id uuid, secret_hash bytea, prefix text, tenant_id uuid, tenant_slug text, scopes text[],
               credit numeric, expires_at timestamptz)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, k.secret_hash, k.prefix, k.tenant_id, t.slug, k.scopes, k.credit, k.expires_at
    from api_keys k join tenants t on t.id = k.tenant_id
    where k.revoked_at is null and t.closed_at is null and (k.expires_at is null or k.expires_at > now())
$$;
revoke execute on function api_key_snapshot() from public;
grant execute on function api_key_snapshot() to studio_gateway;

-- Limits of whoever may call.
create function limit_snapshot()
returns table (id uuid, tenant_id uuid, api_key_id uuid, variant_id text, requests_per_second integer,
               requests_per_minute integer, tokens_per_minute bigint, concurrent_requests integer)
language sql stable security definer set search_path = public, pg_temp as $$
    select l.id, l.tenant_id, l.api_key_id, l.variant_id, l.requests_per_second, l.requests_per_minute,
           l.tokens_per_minute, l.concurrent_requests
    from limits l join tenants t on t.id = l.tenant_id left join api_keys k on k.id = l.api_key_id
    where t.closed_at is null and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
$$;
revoke execute on function limit_snapshot() from public;
grant execute on function limit_snapshot() to studio_gateway;

create trigger notify_limits after insert or update or delete on limits
    for each statement execute function notify_channel('studio_limits');

alter table limits enable row level security, force row level security;
create policy own_tenant on limits for select to studio_gateway using (tenant_id = current_tenant());
create policy all_tenants on limits
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);

grant select, insert, update, delete on limits to studio_operator;
grant select on limits to studio_worker, studio_auditor;
