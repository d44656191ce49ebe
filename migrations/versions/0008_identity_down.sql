-- Back to before. Keys of people stay as rows, since usage hangs on them; nobody ever knew their text.
drop function record_sign_in(text, text, text, text, uuid, jsonb);
drop function record_key_uses(uuid[], timestamptz[]);
drop function revoke_own_key(uuid, text);
drop function create_own_key(uuid, text, text, bytea, text[], text[], text[], timestamptz, text);
drop function has_limits_of_its_own(uuid);
drop function audit_own(text, text, text, jsonb);
drop function granted_memberships();
drop function open_tenants();
drop function key_permissions();
drop trigger notify_identity on tenants;

drop table api_key_uses;

-- A key that would be free of what held it back must not live on; one that only managed keys has nothing left to do.
update api_keys set revoked_at = coalesce(revoked_at, now())
where models is not null or endpoints is not null or user_id is not null or scopes <@ array['keys'];
update api_keys set scopes = array_remove(scopes, 'keys') where 'keys' = any (scopes);
alter table api_keys drop constraint ck_api_keys_scopes_known;
alter table api_keys add constraint ck_api_keys_scopes_known check (scopes <@ array['inference', 'usage', 'admin']);
alter table api_keys drop constraint ck_api_keys_endpoints_not_empty;
alter table api_keys drop constraint ck_api_keys_models_not_empty;
alter table api_keys drop constraint uq_api_keys_user_id_tenant_id;
alter table api_keys drop column user_id;
alter table api_keys drop column endpoints;
alter table api_keys drop column models;

drop table memberships;
drop table users;
