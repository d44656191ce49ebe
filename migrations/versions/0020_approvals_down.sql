-- Drafts that were voided go; invoices that are final stay as they are, with the approval that they have.

drop function close_billing_canary();
drop function open_billing_canary(uuid, text, bytea);
drop table mail_attempts;
drop table mails;
drop table webhook_attempts;
drop table webhook_messages;
drop table webhooks;
drop table alerts;
alter table budgets drop column alert_percents;

drop trigger append_only on reviews;
drop trigger two_persons on credit_lots;
drop function require_two_for_credit();
alter table credit_lots drop constraint uq_credit_lots_request_id, drop column request_id;
drop table credit_requests;

drop function void_draft(uuid);
drop trigger approved on corrections;
drop trigger approved on invoices;
drop function require_approval();
delete from approvals where invoice_id in (select id from invoices where state = 'void');
delete from reviews where invoice_id in (select id from invoices where state = 'void');
delete from invoice_lines where invoice_id in (select id from invoices where state = 'void');
delete from invoices where state = 'void';
alter table invoices drop constraint ck_invoices_only_final_has_number;
alter table invoices drop constraint ck_invoices_state_known;
alter table invoices add constraint ck_invoices_state_known check (state in ('draft', 'final'));

drop trigger two_persons on approvals;
drop function require_second_person();
alter table approvals drop constraint ck_approvals_two_persons, drop constraint ck_approvals_review_named,
    drop constraint fk_approvals_review_id_reviews,
    drop column content_sha256, drop column review_id, drop column reviewed_by;
drop table invoice_holds;
drop index ix_reconciliations_kind_subject;
drop table reviews;
drop function stamp_review();
drop function refuse_change_but_answer();
drop function correction_content_sha256(corrections);
drop function invoice_content_sha256(invoices);
drop function counts_as_person(text, text);
drop function needs_four_eyes(text, text, numeric);
drop function person_of(text);
alter table legal_entities drop column four_eyes_from, drop column four_eyes_by, drop column four_eyes_credit_from;
