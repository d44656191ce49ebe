-- Corrections of final invoices: of a type, with a reference to what they correct, as immutable as an invoice once final.

create table corrections (
    id uuid primary key default uuidv7(),
    invoice_id uuid not null constraint fk_corrections_invoice_id_invoices references invoices,
    tenant_id uuid not null constraint fk_corrections_tenant_id_tenants references tenants,
    legal_entity_id text not null constraint fk_corrections_legal_entity_id_legal_entities references legal_entities,
    type text not null constraint ck_corrections_type_known check (type in ('380', '381', '384')),
    state text not null constraint ck_corrections_state_known check (state in ('draft', 'final')),
    number text constraint uq_corrections_number unique,
    issued_on date,
    currency text not null constraint ck_corrections_currency_known check (currency in ('EUR', 'CNY')),
    tax_category text not null,
    tax_rate numeric(6, 4) not null,
    net numeric(18, 2) not null constraint ck_corrections_net_not_negative check (net >= 0),
    tax numeric(18, 2) not null constraint ck_corrections_tax_not_negative check (tax >= 0),
    gross numeric(18, 2) not null,
    reason text not null,
    ordered_by text not null,
    ordered_at timestamptz not null default now(),
    finalized_at timestamptz,
    approval_id uuid,
    constraint ck_corrections_gross_is_net_plus_tax check (gross = net + tax),
    constraint ck_corrections_final_has_number_and_approval check (
        (state = 'final') = (number is not null and issued_on is not null and approval_id is not null))
);
create index ix_corrections_invoice_id on corrections (invoice_id);
create index ix_corrections_tenant_id on corrections (tenant_id);

create table correction_lines (
    correction_id uuid not null constraint fk_correction_lines_correction_id_corrections references corrections,
    line_no integer not null,
    exact numeric(38, 12) not null constraint ck_correction_lines_exact_not_negative check (exact >= 0),
    amount numeric(18, 2) not null constraint ck_correction_lines_amount_not_negative check (amount >= 0),
    primary key (correction_id, line_no)
);

create table correction_documents (
    correction_id uuid not null constraint fk_correction_documents_correction_id_corrections references corrections,
    kind text not null constraint ck_correction_documents_kind_known check (kind in ('pdf')),
    object_key text not null,
    sha256 text not null,
    size_bytes bigint not null,
    rendered_at timestamptz not null default now(),
    primary key (correction_id, kind)
);

-- An approval is of an invoice's total, or of a correction's.
alter table approvals add column correction_id uuid constraint fk_approvals_correction_id_corrections references corrections;
alter table approvals drop constraint ck_approvals_action_known;
alter table approvals add constraint ck_approvals_action_known check (action in ('finalize', 'correct'));
alter table approvals add constraint ck_approvals_correction_named check ((action = 'correct') = (correction_id is not null));

alter table ledger_transactions drop constraint ck_ledger_transactions_kind_known;
alter table ledger_transactions add constraint ck_ledger_transactions_kind_known
    check (kind in ('invoice', 'correction', 'credit_grant', 'credit_use', 'credit_expiry'));

create trigger final_is_final before update or delete on corrections
    for each row execute function refuse_final_invoice_change();

-- As owner of the table: waiting for whoever makes the correction final needs a right that those who draft do not have.
create function refuse_final_correction_line() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    parent_state text;
begin
    select state into parent_state from corrections where id = new.correction_id for share;
    if parent_state = 'final' then
        raise exception 'correction % is final: a line more is refused', new.correction_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
revoke execute on function refuse_final_correction_line() from public;
create trigger final_is_final before insert on correction_lines
    for each row execute function refuse_final_correction_line();

create trigger append_only before update or delete on correction_lines for each row execute function refuse_change();
create trigger no_truncate before truncate on corrections for each statement execute function refuse_change();
create trigger no_truncate before truncate on correction_lines for each statement execute function refuse_change();

do $$
declare
    scoped text;
begin
    foreach scoped in array array['corrections', 'correction_lines', 'correction_documents'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
end $$;

grant select on corrections, correction_lines, correction_documents to studio_operator, studio_worker, studio_auditor;
grant insert on corrections, correction_lines to studio_operator;
grant update (state, number, issued_on, finalized_at, approval_id) on corrections to studio_worker;
grant insert on correction_documents to studio_worker;
