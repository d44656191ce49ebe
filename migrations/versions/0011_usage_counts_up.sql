-- Sampled requests, counted again by their model's tokenizer: numbers alone.

create table usage_counts (
    id uuid not null default uuidv7(),
    tenant_id uuid not null,
    model_id text not null,
    variant_id text not null,
    replica_id uuid not null,
    started_at timestamptz not null,
    metered_prompt_tokens bigint not null,
    counted_prompt_tokens bigint not null,
    metered_completion_tokens bigint not null,
    counted_completion_tokens bigint not null,
    counted_at timestamptz not null default now(),
    constraint pk_usage_counts primary key (id),
    constraint fk_usage_counts_tenant_id foreign key (tenant_id) references tenants (id)
);
create index ix_usage_counts_started_at on usage_counts (started_at);

create trigger append_only before update or delete on usage_counts for each row execute function refuse_change();
create trigger append_only_truncate before truncate on usage_counts for each statement execute function refuse_change();

alter table usage_counts enable row level security, force row level security;
create policy own_tenant on usage_counts for insert to studio_gateway with check (tenant_id = current_tenant());
create policy all_tenants on usage_counts
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);

grant insert on usage_counts to studio_gateway;
grant select on usage_counts to studio_operator, studio_worker, studio_auditor;
