-- Corrections are lost; what they booked stays in the ledger, so this refuses once there is one.

alter table ledger_transactions drop constraint ck_ledger_transactions_kind_known;
alter table ledger_transactions add constraint ck_ledger_transactions_kind_known
    check (kind in ('invoice', 'credit_grant', 'credit_use', 'credit_expiry'));
delete from approvals where action = 'correct';
alter table approvals drop constraint ck_approvals_correction_named;
alter table approvals drop constraint ck_approvals_action_known;
alter table approvals add constraint ck_approvals_action_known check (action in ('finalize'));
alter table approvals drop column correction_id;
drop table correction_documents;
drop table correction_lines;
drop table corrections;
drop function refuse_final_correction_line();
