revoke update (cancel_requested_at) on fine_tuning_jobs from studio_operator;
revoke update (state, cancelling_at) on batches from studio_operator;
revoke select on batches, fine_tuning_jobs from studio_operator;

drop trigger final_is_final on invoiced_lines;
drop function refuse_final_invoiced_line_change();
-- Refused, rightly, once usage has been invoiced again: it stands in two invoices.
drop index ix_invoiced_lines_held_once;
alter table invoiced_lines drop constraint pk_invoiced_lines;
alter table invoiced_lines add constraint pk_invoiced_lines primary key (rated_line_id);
alter table invoiced_lines drop column freed_by;
alter table invoice_requests drop column again_of;
create trigger final_is_final before insert or update or delete on invoiced_lines
    for each row execute function refuse_final_line_change();
