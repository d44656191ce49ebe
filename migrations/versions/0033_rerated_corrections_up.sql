-- 1. What a re-rating comes to is corrected ----------------------------------------------------------------------------

-- A correction that a re-rating came to: the how-manieth of its invoice. Null: ordered by hand.
alter table corrections add column rerate_no integer
    constraint ck_corrections_rerate_no_counts check (rerate_no is null or (rerate_no > 0 and type <> '384'));
-- The second line: the code computes each again under the invoice's lock before it becomes final.
create unique index ix_corrections_rerated_once on corrections (invoice_id, rerate_no, type) where state = 'final';

-- What the amount comes from, as printed, and the price rows: {"rated": [...], "now": [...]}.
alter table correction_lines add column explanation text not null default '';
alter table correction_lines add column prices jsonb not null default '{}';

-- What is reviewed and approved says that, too. The hash of a correction by hand stays what it was.
create or replace function correction_content_sha256(c corrections) returns text
language sql stable set search_path = public, pg_temp as $$
    select encode(sha256(convert_to((jsonb_build_array(
        c.id, c.invoice_id, c.type, c.currency, c.tax_category, c.tax_rate, c.net, c.tax, c.gross, c.reason,
        (select jsonb_agg(jsonb_build_array(l.line_no, l.exact, l.amount)
                          || case when c.rerate_no is null then '[]' else jsonb_build_array(l.explanation, l.prices) end
                          order by l.line_no)
         from correction_lines l where l.correction_id = c.id))
        || case when c.rerate_no is null then '[]' else jsonb_build_array(c.rerate_no) end)::text, 'UTF8')), 'hex')
$$;

-- 2. A tenant closes on a day to come ----------------------------------------------------------------------------------

-- The first day on which it is closed, in its own zone. Dagster closes it as that day begins.
alter table tenants add column closes_on date;
grant update (closes_on) on tenants to studio_operator;
grant update (closed_at) on tenants to studio_worker;
grant update (revoked_at) on api_keys to studio_worker;
