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

-- Responses ------------------------------------------------------------------------------------------------------------

create table responses (
    id uuid constraint pk_responses primary key default uuidv7(),
    tenant_id uuid not null constraint fk_responses_tenant_id references tenants,
    api_key_id uuid not null,
    model text not null,
    status text not null constraint ck_responses_status_known
        check (status in ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')),
    background boolean not null,
    previous_response_id uuid,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    heard_at timestamptz,
    content bytea not null
);
-- Ciphertext does not compress.
alter table responses alter column content set storage external;
create index ix_responses_expires_at on responses (expires_at);
create index ix_responses_running on responses (heard_at) where status in ('queued', 'in_progress');

alter table responses enable row level security, force row level security;
create policy own_tenant on responses to studio_gateway
    using (tenant_id = current_tenant()) with check (tenant_id = current_tenant());
create policy all_tenants on responses
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);

-- A gateway says which responses it runs, of whatever tenant, and learns which of them are still wanted.
create function beat_responses(running uuid[]) returns setof uuid
language sql security definer set search_path = public, pg_temp as $$
    update responses set heard_at = now()
    where id = any (running) and status in ('queued', 'in_progress')
    returning id
$$;
revoke execute on function beat_responses(uuid[]) from public;

grant select, insert, delete on responses to studio_gateway;
grant update (status, heard_at, content) on responses to studio_gateway;
grant execute on function beat_responses(uuid[]) to studio_gateway;
-- Nobody else reads content, sealed as it is.
grant select (id, tenant_id, api_key_id, model, status, background, previous_response_id, created_at, expires_at,
              heard_at) on responses to studio_worker, studio_auditor;
grant update (status) on responses to studio_worker;
grant delete on responses to studio_worker;
