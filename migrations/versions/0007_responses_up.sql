-- stored responses and answers to idempotent requests, encrypted.

-- Answers to requests that carried an Idempotency-Key: sealed, for 24 hours. --------------------------------------------

create table idempotent_answers (
    api_key_id uuid not null constraint fk_idempotent_answers_api_key_id_api_keys references api_keys,
    key_hash bytea not null,
    tenant_id uuid not null constraint fk_idempotent_answers_tenant_id_tenants references tenants,
    request_hash bytea not null,
    request_id uuid not null,
    runs_at uuid,
    lease_until timestamptz not null,
    content bytea,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (api_key_id, key_hash),
    constraint ck_idempotent_answers_runs_or_is_kept check ((runs_at is null) = (content is not null))
);
create index ix_idempotent_answers_expires_at on idempotent_answers (expires_at);

alter table idempotent_answers enable row level security, force row level security;
create policy own_tenant on idempotent_answers to studio_gateway
    using (tenant_id = current_tenant()) with check (tenant_id = current_tenant());
create policy all_tenants on idempotent_answers to studio_owner using (true) with check (true);
grant select, insert, update, delete on idempotent_answers to studio_gateway;

-- Kept answers go when their time is over, of all tenants, without anybody reading them.
create function forget_idempotent_answers() returns bigint
language sql security definer set search_path = public, pg_temp as $$
    with gone as (delete from idempotent_answers where expires_at <= now() returning 1) select count(*) from gone
$$;
revoke execute on function forget_idempotent_answers() from public;
grant execute on function forget_idempotent_answers() to studio_gateway;
