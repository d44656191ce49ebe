-- Blind comparisons: which models a tenant compared, and the vote. No prompt and no answer.

create table comparisons (
    id uuid constraint pk_comparisons primary key default uuidv7(),
    tenant_id uuid not null constraint fk_comparisons_tenant_id references tenants,
    api_key_id uuid not null,
    models text[] not null constraint ck_comparisons_two_to_four_models check (array_length(models, 1) between 2 and 4),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    verdict text constraint ck_comparisons_verdict_known check (verdict in ('A', 'B', 'C', 'D', 'tie', 'none')),
    voted_at timestamptz,
    constraint ck_comparisons_voted_with_verdict check ((verdict is null) = (voted_at is null))
);
create index ix_comparisons_tenant_id_expires_at on comparisons (tenant_id, expires_at);

alter table comparisons enable row level security, force row level security;
create policy own_tenant on comparisons to studio_gateway
    using (tenant_id = current_tenant()) with check (tenant_id = current_tenant());
create policy all_tenants on comparisons
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);

grant select, insert, delete on comparisons to studio_gateway;
grant update (verdict, voted_at) on comparisons to studio_gateway;
grant select on comparisons to studio_auditor;
