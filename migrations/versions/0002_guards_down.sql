do $$
declare
    role text;
    named record;
begin
    foreach role in array array['gateway', 'operator', 'shipper', 'worker', 'node_agent', 'auditor'] loop
        execute format('revoke all on all tables in schema public from studio_%s', role);
        execute format('revoke all on all functions in schema public from studio_%s', role);
        execute format('revoke all on schema public from studio_%s', role);
    end loop;
    for named in select schemaname, tablename, policyname from pg_policies where schemaname = 'public' loop
        execute format('drop policy %I on %I', named.policyname, named.tablename);
        execute format('alter table %I no force row level security, disable row level security', named.tablename);
    end loop;
    for named in
        select t.tgname, c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where not t.tgisinternal and t.tgparentid = 0 and c.relnamespace = 'public'::regnamespace
    loop
        execute format('drop trigger %I on %I', named.tgname, named.relname);
    end loop;
    for named in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'usage_events'::regclass
    loop
        execute format('drop table %I', named.relname);
    end loop;
end $$;

drop function accept_usage(uuid);
drop function ensure_usage_partition(date);
drop function api_key_snapshot();
drop function served_adapters();
drop function key_spending(uuid[]);
drop function current_tenant();
drop function notify_channel();
drop function refuse_change();
drop function refuse_price_change();
drop function refuse_final_invoice_change();
drop function refuse_final_line_change();

alter table opening_hours drop constraint ex_opening_hours_no_overlap;
drop function minutes_of_day(time);
alter table prices drop constraint ex_prices_no_overlap;
alter table tenant_billing drop constraint ex_tenant_billing_no_overlap;
alter table tax_rates drop constraint ex_tax_rates_no_overlap;
drop extension btree_gist;
