-- The ledger is lost, and which invoices were paid from credit.

alter table invoices drop column prepaid;
drop table ledger_days;
drop table credit_lots;
drop table ledger_entries;
drop table ledger_transactions;
drop table ledger_accounts;
drop function stamp_ledger_transaction();
drop function require_entries();
drop function require_balance();
