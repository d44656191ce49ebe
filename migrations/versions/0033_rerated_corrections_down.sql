revoke update (revoked_at) on api_keys from studio_worker;
revoke update (closed_at) on tenants from studio_worker;
alter table tenants drop column closes_on;

create or replace function correction_content_sha256(c corrections) returns text
language sql stable set search_path = public, pg_temp as $$
    select encode(sha256(convert_to(jsonb_build_array(
        c.id, c.invoice_id, c.type, c.currency, c.tax_category, c.tax_rate, c.net, c.tax, c.gross, c.reason,
        (select jsonb_agg(jsonb_build_array(l.line_no, l.exact, l.amount) order by l.line_no)
         from correction_lines l where l.correction_id = c.id))::text, 'UTF8')), 'hex')
$$;

alter table correction_lines drop column prices;
alter table correction_lines drop column explanation;
drop index ix_corrections_rerated_once;
alter table corrections drop column rerate_no;
