-- 1. Usage of a cancelled invoice is invoiced again, once -------------------------------------------------------------

-- The cancelled invoice this request is to replace. Unique: it is replaced once.
alter table invoice_requests add column again_of uuid
    constraint fk_invoice_requests_again_of_invoices references invoices;
alter table invoice_requests add constraint uq_invoice_requests_again_of unique (again_of);

-- A rated line stands in one invoice that counts. In cancelled ones it stays, for their documents, named free.
alter table invoiced_lines add column freed_by uuid
    constraint fk_invoiced_lines_freed_by_invoice_requests references invoice_requests;
alter table invoiced_lines drop constraint pk_invoiced_lines;
alter table invoiced_lines add constraint pk_invoiced_lines primary key (rated_line_id, invoice_id);
create unique index ix_invoiced_lines_held_once on invoiced_lines (rated_line_id) where freed_by is null;

create function refuse_final_invoiced_line_change() returns trigger language plpgsql as $$
declare
    parent uuid := case tg_op when 'DELETE' then old.invoice_id else new.invoice_id end;
    parent_state text;
begin
    -- FOR SHARE: as for the lines of invoices.
    select state into parent_state from invoices where id = parent for share;
    if tg_op = 'UPDATE' and old.freed_by is null and new.freed_by is not null
       and (to_jsonb(new) - 'freed_by') = (to_jsonb(old) - 'freed_by') and parent_state = 'final'
       and exists (select from invoice_requests q join corrections c on c.invoice_id = q.again_of
                   where q.id = new.freed_by and q.again_of = old.invoice_id and c.type = '384' and c.state = 'final')
    then
        return new;
    end if;
    if parent_state = 'final' then
        raise exception 'invoice % is final: % of a line refused', parent, lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    if tg_op <> 'DELETE' and new.freed_by is not null then
        raise exception 'only usage of a cancelled invoice is free for another: % refused', lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;
drop trigger final_is_final on invoiced_lines;
create trigger final_is_final before insert or update or delete on invoiced_lines
    for each row execute function refuse_final_invoiced_line_change();

-- 2. Closing a tenant ends its jobs, as the tenant itself could ---------------------------------------------------------

grant select on batches, fine_tuning_jobs to studio_operator;
grant update (state, cancelling_at) on batches to studio_operator;
grant update (cancel_requested_at) on fine_tuning_jobs to studio_operator;
