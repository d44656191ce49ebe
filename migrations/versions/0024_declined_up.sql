-- A request for credit is granted or declined, with a reason, once.
alter table credit_requests
    add column declined_by text,
    add column declined_at timestamptz,
    add column decline_reason text,
    add constraint ck_credit_requests_declined_whole check (
        (declined_by is null) = (declined_at is null) and (declined_by is null) = (decline_reason is null)),
    add constraint ck_credit_requests_one_answer check (approved_by is null or declined_by is null);

-- Any of the columns of an answer says that there is one.
create or replace function refuse_change_but_answer() returns trigger
language plpgsql set search_path = public, pg_temp as $$
declare
    answer text[] := string_to_array(tg_argv[0], ',');
begin
    if tg_op = 'DELETE' or (to_jsonb(new) - answer) <> (to_jsonb(old) - answer)
       or exists (select from unnest(answer) as name where to_jsonb(old) ->> name is not null)
    then
        raise exception '% is answered once and never changed: % refused', tg_table_name, lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
drop trigger answered_once on credit_requests;
create trigger answered_once before update or delete on credit_requests
    for each row execute function
        refuse_change_but_answer('approved_by,approved_at,declined_by,declined_at,decline_reason');

grant update (declined_by, declined_at, decline_reason) on credit_requests to studio_operator;

-- Of models, not of tenants: what was promised to all is shown to all.
grant select on slo_figures to studio_gateway;
