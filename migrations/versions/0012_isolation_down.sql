drop function open_canary(text, uuid, text, bytea);
drop function close_canaries();
drop table isolation_certificates;
drop table signing_keys;
alter table tenants drop column is_internal;
