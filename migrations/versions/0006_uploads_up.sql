-- Files that arrive in parts, and the purposes of files that are only kept.

create table uploads (
    id uuid not null default uuidv7() constraint pk_uploads primary key,
    tenant_id uuid not null constraint fk_uploads_tenant_id references tenants (id),
    filename text not null,
    purpose text not null,
    size_bytes bigint not null,
    file_life_seconds integer,
    state text not null default 'pending',
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    ended_at timestamptz,
    part_ids uuid[],
    file_id uuid constraint fk_uploads_file_id references files (id),
    parts_removed_at timestamptz,
    constraint uq_uploads_tenant_id_id unique (tenant_id, id),
    constraint ck_uploads_state_known check (state in ('pending', 'completed', 'cancelled')),
    constraint ck_uploads_size_positive check (size_bytes > 0),
    constraint ck_uploads_file_when_completed
        check ((state = 'completed') = (file_id is not null) and (state = 'completed') = (part_ids is not null))
);
create index ix_uploads_with_parts on uploads (expires_at) where parts_removed_at is null;

-- Foreign keys are not under row-level security: naming the tenant too is what keeps a part out of another's upload.
create table upload_parts (
    id uuid not null default uuidv7() constraint pk_upload_parts primary key,
    tenant_id uuid not null,
    upload_id uuid not null,
    size_bytes bigint not null,
    created_at timestamptz not null default now(),
    constraint fk_upload_parts_tenant_id_upload_id
        foreign key (tenant_id, upload_id) references uploads (tenant_id, id)
);
create index ix_upload_parts_upload_id on upload_parts (upload_id);

do $$
declare
    scoped text;
begin
    foreach scoped in array array['uploads', 'upload_parts'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy own_tenant on %I to studio_gateway
                        using (tenant_id = current_tenant()) with check (tenant_id = current_tenant())', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
end $$;

grant select on uploads, upload_parts to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant insert on uploads, upload_parts to studio_gateway;
grant update (state, ended_at, part_ids, file_id) on uploads to studio_gateway;
grant update (parts_removed_at) on uploads to studio_worker;

alter table files drop constraint ck_files_purpose_known;
alter table files add constraint ck_files_purpose_known check (purpose in (
    'batch', 'fine-tune', 'assistants', 'vision', 'user_data', 'evals', 'batch_output', 'fine-tune-results'));
