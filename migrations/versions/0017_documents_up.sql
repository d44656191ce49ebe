-- Documents are made from one frozen snapshot, judged by rule sets, and of six kinds.

create table document_snapshots (
    id uuid primary key,
    tenant_id uuid not null constraint fk_document_snapshots_tenant_id_tenants references tenants,
    invoice_id uuid not null constraint fk_document_snapshots_invoice_id_invoices references invoices,
    correction_id uuid constraint fk_document_snapshots_correction_id_corrections references corrections,
    content text not null,
    sha256 text not null,
    made_at timestamptz not null default now(),
    constraint ck_document_snapshots_id_is_the_subjects check (id = coalesce(correction_id, invoice_id)),
    constraint ck_document_snapshots_hash_is_of_content
        check (sha256 = encode(sha256(convert_to(content, 'UTF8')), 'hex'))
);
create index ix_document_snapshots_tenant_id on document_snapshots (tenant_id);
create index ix_document_snapshots_invoice_id on document_snapshots (invoice_id);

create table document_verdicts (
    id uuid primary key default uuidv7(),
    snapshot_id uuid not null constraint fk_document_verdicts_snapshot_id_document_snapshots references document_snapshots,
    kind text not null,
    document_sha256 text not null,
    rule_set text not null,
    version text not null,
    rules_sha256 text not null,
    is_valid boolean not null,
    findings jsonb not null,
    checked_at timestamptz not null default now()
);
create index ix_document_verdicts_snapshot_id on document_verdicts (snapshot_id);

create table tax_treatments (
    id uuid primary key default uuidv7(),
    seller_country text not null,
    buyer_area text not null,
    category text not null constraint ck_tax_treatments_category_known check (category in ('S', 'AE', 'G', 'O')),
    exemption_code text,
    wording jsonb not null,
    valid_from date not null,
    valid_until date,
    source text not null,
    constraint ex_tax_treatments_no_overlap
        exclude using gist (seller_country with =, buyer_area with =, daterange(valid_from, valid_until) with &&)
);

create table fx_rates (
    id uuid primary key default uuidv7(),
    quote text not null,
    month date not null constraint ck_fx_rates_month_is_its_first_day check (extract(day from month) = 1),
    rate numeric(18, 4) not null constraint ck_fx_rates_rate_positive check (rate > 0),
    source text not null constraint ck_fx_rates_source_known check (source in ('BMF', 'ECB')),
    derivation text not null,
    recorded_at timestamptz not null default now(),
    constraint uq_fx_rates_quote_month_source unique (quote, month, source)
);

create table vat_id_checks (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_vat_id_checks_tenant_id_tenants references tenants,
    vat_id text not null,
    method text not null constraint ck_vat_id_checks_method_known check (method in ('format', 'vies')),
    is_valid boolean not null,
    evidence jsonb not null,
    checked_at timestamptz not null
);
create index ix_vat_id_checks_tenant_id on vat_id_checks (tenant_id);

alter table invoices add column tax_details jsonb not null default '{}';
alter table tenant_billing alter column tax_category drop not null;

alter table invoice_documents drop constraint ck_invoice_documents_kind_known;
alter table invoice_documents add constraint ck_invoice_documents_kind_known
    check (kind in ('pdf', 'cii', 'ubl', 'csv', 'json', 'fapiao'));
alter table correction_documents drop constraint ck_correction_documents_kind_known;
alter table correction_documents add constraint ck_correction_documents_kind_known
    check (kind in ('pdf', 'cii', 'ubl', 'csv', 'json', 'fapiao'));

do $$
declare
    guarded text;
begin
    foreach guarded in array array['document_snapshots', 'document_verdicts', 'fx_rates', 'vat_id_checks'] loop
        execute format('create trigger append_only before update or delete on %I for each row
                        execute function refuse_change()', guarded);
        execute format('create trigger append_only_truncate before truncate on %I for each statement
                        execute function refuse_change()', guarded);
    end loop;
    foreach guarded in array array['document_snapshots', 'document_verdicts', 'vat_id_checks'] loop
        execute format('alter table %I enable row level security, force row level security', guarded);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', guarded);
    end loop;
end $$;
create policy own_tenant on document_snapshots for select to studio_gateway using (tenant_id = current_tenant());

grant select on document_snapshots to studio_gateway;
grant select on document_snapshots, document_verdicts, tax_treatments, fx_rates, vat_id_checks
    to studio_operator, studio_worker, studio_auditor;
grant insert on document_snapshots, document_verdicts, fx_rates, vat_id_checks to studio_worker;
grant insert, update (valid_until) on tax_treatments to studio_worker;
