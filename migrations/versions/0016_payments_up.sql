-- Money in. A payment is what a bank or a provider booked; a match says what it pays. Both are appended and never changed,
-- both stand in the ledger. Whether an invoice is paid is computed from there: its own row stays as it was made final.

-- 1. Terms of payment, and whose bank account is whose ---------------------------------------------------------------

alter table legal_entities add column payment_days integer not null default 14;
alter table legal_entities add constraint ck_legal_entities_payment_days_sensible check (payment_days between 0 and 365);
alter table legal_entities add column bank_accounts text[] not null default '{}';
alter table tenant_billing add column payment_days integer;
alter table tenant_billing add constraint ck_tenant_billing_payment_days_sensible check (payment_days between 0 and 365);
alter table invoices add column payment_days integer not null default 14;

alter table api_keys drop constraint ck_api_keys_scopes_known;
alter table api_keys add constraint ck_api_keys_scopes_known
    check (scopes <@ array['inference', 'usage', 'account', 'keys', 'admin']);

-- 2. The ledger learns of money --------------------------------------------------------------------------------------

-- Money that nobody has recognised yet is in the books, but nobody's.
alter table ledger_transactions alter column tenant_id drop not null;
alter table ledger_transactions drop constraint ck_ledger_transactions_kind_known;
alter table ledger_transactions add constraint ck_ledger_transactions_kind_known check (kind in (
    'invoice', 'correction', 'credit_grant', 'credit_use', 'credit_expiry', 'payment', 'payment_match', 'write_off'));
alter table ledger_accounts drop constraint ck_ledger_accounts_kind_known;
alter table ledger_accounts add constraint ck_ledger_accounts_kind_known check (kind in (
    'receivable', 'revenue', 'vat_payable', 'rounding', 'prepaid', 'promotion', 'promotion_cost', 'breakage', 'bank',
    'clearing', 'unapplied', 'outside', 'bad_debt'));
alter table ledger_accounts drop constraint ck_ledger_accounts_tenants_own_theirs;
alter table ledger_accounts add constraint ck_ledger_accounts_tenants_own_theirs
    check ((kind in ('receivable', 'prepaid', 'promotion', 'unapplied')) = (tenant_id is not null));

-- 3. Payments and matches ---------------------------------------------------------------------------------------------

create table statement_files (
    id uuid primary key default uuidv7(),
    sha256 text not null constraint uq_statement_files_sha256 unique,
    name text not null,
    format text not null constraint ck_statement_files_format_known check (format in ('camt.053', 'csv')),
    entries integer not null,
    booked integer not null,
    known integer not null,
    ignored integer not null,
    imported_by text not null,
    imported_at timestamptz not null default now()
);

create table payments (
    id uuid primary key default uuidv7(),
    legal_entity_id text not null constraint fk_payments_legal_entity_id_legal_entities references legal_entities,
    currency text not null constraint ck_payments_currency_known check (currency in ('EUR', 'CNY')),
    amount numeric(18, 2) not null constraint ck_payments_moves_something check (amount <> 0),
    account text not null,
    source text not null constraint ck_payments_source_known check (source in ('camt.053', 'csv', 'manual', 'stripe')),
    entry_key text not null constraint uq_payments_entry_key unique,
    booked_on date not null,
    payer text,
    payer_account text,
    remittance text not null,
    end_to_end_id text,
    is_return boolean not null,
    file_id uuid constraint fk_payments_file_id_statement_files references statement_files,
    recorded_by text not null,
    recorded_at timestamptz not null default now(),
    transaction_id uuid not null constraint uq_payments_transaction_id unique
        constraint fk_payments_transaction_id_ledger_transactions references ledger_transactions
);
create index ix_payments_file_id on payments (file_id);
create index ix_payments_end_to_end_id on payments (end_to_end_id);

create table payment_matches (
    id uuid primary key default uuidv7(),
    payment_id uuid not null constraint fk_payment_matches_payment_id_payments references payments,
    target text not null constraint ck_payment_matches_target_known
        check (target in ('invoice', 'unapplied', 'credit', 'outside')),
    tenant_id uuid constraint fk_payment_matches_tenant_id_tenants references tenants,
    invoice_id uuid constraint fk_payment_matches_invoice_id_invoices references invoices,
    lot_id uuid constraint fk_payment_matches_lot_id_credit_lots references credit_lots,
    amount numeric(18, 2) not null constraint ck_payment_matches_moves_something check (amount <> 0),
    reverses_id uuid constraint fk_payment_matches_reverses_id_payment_matches references payment_matches,
    matched_by text not null,
    reason text not null,
    booked_on date not null,
    matched_at timestamptz not null default now(),
    transaction_id uuid not null constraint uq_payment_matches_transaction_id unique
        constraint fk_payment_matches_transaction_id_ledger_transactions references ledger_transactions,
    constraint ck_payment_matches_invoice_named check ((target = 'invoice') = (invoice_id is not null)),
    constraint ck_payment_matches_lot_named check ((target = 'credit') = (lot_id is not null)),
    constraint ck_payment_matches_tenant_named check ((target = 'outside') = (tenant_id is null))
);
create index ix_payment_matches_payment_id on payment_matches (payment_id);
create index ix_payment_matches_tenant_id on payment_matches (tenant_id);
create index ix_payment_matches_invoice_id on payment_matches (invoice_id);
create index ix_payment_matches_reverses_id on payment_matches (reverses_id);

-- Whatever the application believes: a payment is never matched beyond itself, and a match never taken back twice. Two
-- who match one payment at once wait for each other here, and the second sees what the first has committed.
create function require_covered_match() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    of_payment numeric;
    matched numeric;
    reversed payment_matches;
begin
    perform pg_advisory_xact_lock(hashtextextended('payment ' || new.payment_id, 0));
    select amount into of_payment from payments where id = new.payment_id;
    select coalesce(sum(amount), 0) + new.amount into matched from payment_matches where payment_id = new.payment_id;
    if matched not between least(of_payment, 0) and greatest(of_payment, 0) then
        raise exception 'payment % of % would be matched with %', new.payment_id, of_payment, matched
            using errcode = 'check_violation';
    end if;
    if new.reverses_id is not null then
        perform pg_advisory_xact_lock(hashtextextended('match ' || new.reverses_id, 0));
        select * into reversed from payment_matches where id = new.reverses_id;
        if (reversed.target, reversed.tenant_id, reversed.invoice_id, reversed.lot_id)
           is distinct from (new.target, new.tenant_id, new.invoice_id, new.lot_id)
           or sign(reversed.amount) = sign(new.amount)
           or abs(reversed.amount) < abs(new.amount) + (
               select coalesce(sum(abs(amount)), 0) from payment_matches where reverses_id = new.reverses_id) then
            raise exception 'match % cannot be taken back by %', new.reverses_id, new.amount
                using errcode = 'check_violation';
        end if;
    end if;
    return new;
end $$;
create trigger is_covered before insert on payment_matches for each row execute function require_covered_match();

-- 4. Dunning and write-offs -------------------------------------------------------------------------------------------

create table dunning_levels (
    level integer primary key constraint ck_dunning_levels_positive check (level > 0),
    days_overdue integer not null constraint ck_dunning_levels_days_positive check (days_overdue > 0),
    name text not null,
    constraint uq_dunning_levels_days_overdue unique (days_overdue)
);
insert into dunning_levels (level, days_overdue, name)
    values (1, 5, 'payment reminder'), (2, 19, 'first dunning letter'), (3, 33, 'last dunning letter');

create table dunning_notices (
    id uuid primary key default uuidv7(),
    invoice_id uuid not null constraint fk_dunning_notices_invoice_id_invoices references invoices,
    tenant_id uuid not null constraint fk_dunning_notices_tenant_id_tenants references tenants,
    level integer not null constraint fk_dunning_notices_level_dunning_levels references dunning_levels,
    state text not null constraint ck_dunning_notices_state_known check (state in ('to_send')),
    currency text not null constraint ck_dunning_notices_currency_known check (currency in ('EUR', 'CNY')),
    amount numeric(18, 2) not null constraint ck_dunning_notices_positive check (amount > 0),
    due_on date not null,
    proposed_on date not null,
    recorded_at timestamptz not null default now(),
    constraint uq_dunning_notices_invoice_id unique (invoice_id, level, state)
);
create index ix_dunning_notices_tenant_id on dunning_notices (tenant_id);

create table write_offs (
    id uuid primary key default uuidv7(),
    invoice_id uuid not null constraint fk_write_offs_invoice_id_invoices references invoices,
    tenant_id uuid not null constraint fk_write_offs_tenant_id_tenants references tenants,
    currency text not null constraint ck_write_offs_currency_known check (currency in ('EUR', 'CNY')),
    amount numeric(18, 2) not null constraint ck_write_offs_positive check (amount > 0),
    reason text not null,
    proposed_by text not null,
    proposed_at timestamptz not null default now(),
    constraint uq_write_offs_id_proposed_by unique (id, proposed_by)
);
create index ix_write_offs_invoice_id on write_offs (invoice_id);
create index ix_write_offs_tenant_id on write_offs (tenant_id);

create table write_off_decisions (
    write_off_id uuid primary key,
    proposed_by text not null,
    is_approved boolean not null,
    decided_by text not null,
    decided_at timestamptz not null default now(),
    transaction_id uuid constraint uq_write_off_decisions_transaction_id unique
        constraint fk_write_off_decisions_transaction_id_ledger_transactions references ledger_transactions,
    constraint fk_write_off_decisions_write_off_id_write_offs foreign key (write_off_id, proposed_by)
        references write_offs (id, proposed_by),
    constraint ck_write_off_decisions_two_persons check (not is_approved or decided_by <> proposed_by),
    constraint ck_write_off_decisions_booked_if_approved check (is_approved = (transaction_id is not null))
);

do $$
declare
    append_only text;
begin
    foreach append_only in array array['statement_files', 'payments', 'payment_matches', 'dunning_notices', 'write_offs',
                                       'write_off_decisions']
    loop
        execute format('create trigger append_only before update or delete on %I for each row
                        execute function refuse_change()', append_only);
        execute format('create trigger append_only_truncate before truncate on %I for each statement
                        execute function refuse_change()', append_only);
    end loop;
end $$;

-- 5. Who may do what --------------------------------------------------------------------------------------------------

do $$
declare
    scoped text;
begin
    foreach scoped in array array['payment_matches', 'dunning_notices', 'write_offs'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
    -- What a tenant sees of the books: what stands in its own accounts, and which document it comes from.
    foreach scoped in array array['payment_matches', 'ledger_accounts', 'ledger_transactions', 'corrections', 'credit_lots'] loop
        execute format('create policy own_tenant on %I for select to studio_gateway
                        using (tenant_id = current_tenant())', scoped);
    end loop;
end $$;
create policy own_tenant on ledger_entries for select to studio_gateway
    using (exists (select 1 from ledger_accounts a where a.id = account_id and a.tenant_id = current_tenant()));
create policy own_tenant on correction_documents for select to studio_gateway
    using (exists (select 1 from corrections c where c.id = correction_id and c.tenant_id = current_tenant()));

grant select on statement_files, payments, payment_matches, dunning_levels, dunning_notices, write_offs, write_off_decisions
    to studio_operator, studio_worker, studio_auditor;
grant insert on statement_files, payments, payment_matches to studio_operator, studio_worker;
grant insert on write_offs, write_off_decisions to studio_operator;
grant insert on dunning_notices to studio_worker;

-- Without the words that operators write for each other, and without who they are.
grant select (id, legal_entity_id, kind, currency, tenant_id, detail) on ledger_accounts to studio_gateway;
grant select (id, kind, legal_entity_id, tenant_id, subject, booked_on, recorded_at) on ledger_transactions to studio_gateway;
grant select (transaction_id, n, account_id, currency, amount) on ledger_entries to studio_gateway;
grant select (id, payment_id, target, tenant_id, invoice_id, lot_id, amount, booked_on, transaction_id)
    on payment_matches to studio_gateway;
grant select (id, invoice_id, tenant_id, type, state, number, issued_on, currency, net, tax, gross, reason)
    on corrections to studio_gateway;
grant select on correction_documents to studio_gateway;
grant select (id, tenant_id, kind, currency, amount, granted_on, expires_on) on credit_lots to studio_gateway;
