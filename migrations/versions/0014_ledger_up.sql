-- The ledger. What the application cannot break is here: entries sum to zero, nothing is changed afterwards, and a closed
-- day receives nothing more, so that a hash over it holds for ever.

create table ledger_accounts (
    id uuid primary key default uuidv7(),
    legal_entity_id text not null constraint fk_ledger_accounts_legal_entity_id_legal_entities references legal_entities,
    kind text not null constraint ck_ledger_accounts_kind_known check (kind in (
        'receivable', 'revenue', 'vat_payable', 'rounding', 'prepaid', 'promotion', 'promotion_cost', 'breakage', 'bank')),
    currency text not null constraint ck_ledger_accounts_currency_known check (currency in ('EUR', 'CNY')),
    tenant_id uuid constraint fk_ledger_accounts_tenant_id_tenants references tenants,
    detail text not null,
    constraint uq_ledger_accounts_id_legal_entity_id_currency unique (id, legal_entity_id, currency),
    constraint ck_ledger_accounts_tenants_own_theirs
        check ((kind in ('receivable', 'prepaid', 'promotion')) = (tenant_id is not null))
);
create unique index uq_ledger_accounts_identity on ledger_accounts (legal_entity_id, kind, currency, tenant_id, detail)
    nulls not distinct;
create index ix_ledger_accounts_tenant_id on ledger_accounts (tenant_id);

create table ledger_transactions (
    id uuid primary key default uuidv7(),
    key text not null constraint uq_ledger_transactions_key unique,
    kind text not null constraint ck_ledger_transactions_kind_known
        check (kind in ('invoice', 'credit_grant', 'credit_use', 'credit_expiry')),
    legal_entity_id text not null
        constraint fk_ledger_transactions_legal_entity_id_legal_entities references legal_entities,
    tenant_id uuid not null constraint fk_ledger_transactions_tenant_id_tenants references tenants,
    subject text not null,
    booked_on date not null,
    booked_by text not null,
    description text not null,
    entries integer not null constraint ck_ledger_transactions_two_sides check (entries >= 2),
    recorded_at timestamptz not null,
    recorded_on date not null,
    constraint uq_ledger_transactions_id_legal_entity_id unique (id, legal_entity_id)
);
create index ix_ledger_transactions_tenant_id on ledger_transactions (tenant_id);
create index ix_ledger_transactions_subject on ledger_transactions (subject);
create index ix_ledger_transactions_recorded_on on ledger_transactions (recorded_on);

create table ledger_entries (
    transaction_id uuid not null,
    n integer not null,
    account_id uuid not null,
    legal_entity_id text not null,
    currency text not null,
    amount numeric(38, 12) not null constraint ck_ledger_entries_moves_something check (amount <> 0),
    line_no integer,
    primary key (transaction_id, n),
    constraint fk_ledger_entries_transaction_id_ledger_transactions foreign key (transaction_id, legal_entity_id)
        references ledger_transactions (id, legal_entity_id),
    constraint fk_ledger_entries_account_id_ledger_accounts foreign key (account_id, legal_entity_id, currency)
        references ledger_accounts (id, legal_entity_id, currency)
);
create index ix_ledger_entries_account_id on ledger_entries (account_id);

create table credit_lots (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_credit_lots_tenant_id_tenants references tenants,
    legal_entity_id text not null constraint fk_credit_lots_legal_entity_id_legal_entities references legal_entities,
    kind text not null constraint ck_credit_lots_kind_known check (kind in ('prepaid', 'promotion')),
    currency text not null constraint ck_credit_lots_currency_known check (currency in ('EUR', 'CNY')),
    amount numeric(18, 2) not null constraint ck_credit_lots_positive check (amount > 0),
    granted_on date not null,
    expires_on date,
    granted_by text not null,
    reason text not null,
    created_at timestamptz not null default now()
);
create index ix_credit_lots_tenant_id on credit_lots (tenant_id);

create table ledger_days (
    day date primary key,
    transactions integer not null,
    content_sha256 text not null,
    previous_sha256 text not null,
    sha256 text not null constraint uq_ledger_days_sha256 unique,
    sealed_at timestamptz not null default now()
);

alter table invoices add column prepaid numeric(18, 2) not null default 0;
alter table invoices add constraint ck_invoices_prepaid_within_gross check (prepaid between 0 and gross);

-- 1. Sum zero ---------------------------------------------------------------------------------------------------------

-- One statement carries all entries of a transaction, and here they are all seen at once. A deferred trigger for each row
-- is quadratic; one for each transaction can be fired early by SET CONSTRAINTS and another entry slipped in after it.
create function require_balance() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    wrong record;
begin
    select n.transaction_id, n.currency, sum(n.amount) as off into wrong
    from added n group by n.transaction_id, n.currency having sum(n.amount) <> 0 limit 1;
    if found then
        raise exception 'ledger transaction % is off by % %', wrong.transaction_id, wrong.off, wrong.currency
            using errcode = 'check_violation';
    end if;
    select n.transaction_id, count(*) as given, max(t.entries) as expected into wrong
    from added n join ledger_transactions t on t.id = n.transaction_id
    group by n.transaction_id
    having count(*) <> max(t.entries) or min(n.n) <> 1 or max(n.n) <> max(t.entries) limit 1;
    if found then
        raise exception 'ledger transaction % takes its % entries in one statement, not %',
            wrong.transaction_id, wrong.expected, wrong.given using errcode = 'check_violation';
    end if;
    return null;
end $$;
create trigger sums_to_zero after insert on ledger_entries referencing new table as added
    for each statement execute function require_balance();

create function require_entries() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if not exists (select from ledger_entries e where e.transaction_id = new.id) then
        raise exception 'ledger transaction % has no entries', new.id using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger has_entries after insert on ledger_transactions deferrable initially deferred
    for each row execute function require_entries();

-- 2. A day that is closed stays as it is ------------------------------------------------------------------------------

-- Whoever closes a day takes this lock alone, and so waits for every posting that has its stamp and is not committed.
create function stamp_ledger_transaction() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('ledger', 0));
    new.recorded_at := clock_timestamp();
    new.recorded_on := (new.recorded_at at time zone 'UTC')::date;
    if exists (select from ledger_days d where d.day >= new.recorded_on) then
        raise exception 'the ledger of % is closed: is the clock right?', new.recorded_on
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end $$;
create trigger stamped before insert on ledger_transactions
    for each row execute function stamp_ledger_transaction();

do $$
declare
    append_only text;
begin
    foreach append_only in array array['ledger_accounts', 'ledger_transactions', 'ledger_entries', 'ledger_days',
                                       'credit_lots']
    loop
        execute format('create trigger append_only before update or delete on %I for each row
                        execute function refuse_change()', append_only);
        execute format('create trigger append_only_truncate before truncate on %I for each statement
                        execute function refuse_change()', append_only);
    end loop;
end $$;

-- 3. Who may do what: select and insert, and nobody more --------------------------------------------------------------

do $$
declare
    scoped text;
begin
    foreach scoped in array array['ledger_accounts', 'ledger_transactions', 'credit_lots', 'ledger_entries'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
end $$;

grant select on ledger_accounts, ledger_transactions, ledger_entries, ledger_days, credit_lots
    to studio_operator, studio_worker, studio_auditor;
grant insert on ledger_accounts, ledger_transactions, ledger_entries, credit_lots to studio_operator, studio_worker;
grant insert on ledger_days to studio_worker;
