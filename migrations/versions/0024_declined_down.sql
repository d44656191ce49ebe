revoke select on slo_figures from studio_gateway;
drop trigger answered_once on credit_requests;
create or replace function refuse_change_but_answer() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare
    answer text[] := string_to_array(tg_argv[0], ',');
begin
    if tg_op = 'DELETE' or (to_jsonb(new) - answer) <> (to_jsonb(old) - answer) or to_jsonb(old) ->> answer[1] is not null
    then
        raise exception '% is answered once and never changed: % refused', tg_table_name, lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger answered_once before update or delete on credit_requests
    for each row execute function refuse_change_but_answer('approved_by,approved_at');
alter table credit_requests
    drop constraint ck_credit_requests_one_answer,
    drop constraint ck_credit_requests_declined_whole,
    drop column decline_reason,
    drop column declined_at,
    drop column declined_by;
