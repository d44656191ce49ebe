-- stored responses and answers to idempotent requests, encrypted.

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
