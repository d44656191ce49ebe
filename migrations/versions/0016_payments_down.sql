-- Payments are lost; what they booked stays in the ledger, so this refuses once there is one.

drop policy own_tenant on correction_documents;
drop policy own_tenant on ledger_entries;
drop policy own_tenant on ledger_accounts;
drop policy own_tenant on ledger_transactions;
drop policy own_tenant on corrections;
drop policy own_tenant on credit_lots;
revoke select (id, legal_entity_id, kind, currency, tenant_id, detail) on ledger_accounts from studio_gateway;
revoke select (id, kind, legal_entity_id, tenant_id, subject, booked_on, recorded_at) on ledger_transactions from studio_gateway;
revoke select (transaction_id, n, account_id, currency, amount) on ledger_entries from studio_gateway;
revoke select (id, invoice_id, tenant_id, type, state, number, issued_on, currency, net, tax, gross, reason)
    on corrections from studio_gateway;
revoke select on correction_documents from studio_gateway;
revoke select (id, tenant_id, kind, currency, amount, granted_on, expires_on) on credit_lots from studio_gateway;

drop table write_off_decisions;
drop table write_offs;
drop table dunning_notices;
drop table dunning_levels;
drop table payment_matches;
drop table payments;
drop table statement_files;
drop function require_covered_match();

alter table ledger_accounts drop constraint ck_ledger_accounts_tenants_own_theirs;
alter table ledger_accounts add constraint ck_ledger_accounts_tenants_own_theirs
    check ((kind in ('receivable', 'prepaid', 'promotion')) = (tenant_id is not null));
alter table ledger_accounts drop constraint ck_ledger_accounts_kind_known;
alter table ledger_accounts add constraint ck_ledger_accounts_kind_known check (kind in (
    'receivable', 'revenue', 'vat_payable', 'rounding', 'prepaid', 'promotion', 'promotion_cost', 'breakage', 'bank'));
alter table ledger_transactions drop constraint ck_ledger_transactions_kind_known;
alter table ledger_transactions add constraint ck_ledger_transactions_kind_known
    check (kind in ('invoice', 'correction', 'credit_grant', 'credit_use', 'credit_expiry'));
alter table ledger_transactions alter column tenant_id set not null;

update api_keys set scopes = array_remove(scopes, 'account');
alter table api_keys drop constraint ck_api_keys_scopes_known;
alter table api_keys add constraint ck_api_keys_scopes_known
    check (scopes <@ array['inference', 'usage', 'keys', 'admin']);
alter table invoices drop column payment_days;
alter table tenant_billing drop column payment_days;
alter table legal_entities drop column bank_accounts;
alter table legal_entities drop column payment_days;
