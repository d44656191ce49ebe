-- Back to requests per second as a column of keys; other limits are lost.

drop function limit_snapshot();
drop function api_key_snapshot();

alter table api_keys add column requests_per_second integer;
alter table api_keys add constraint ck_api_keys_rate_positive check (requests_per_second > 0);
update api_keys k set requests_per_second = l.requests_per_second
from limits l where l.api_key_id = k.id and l.variant_id is null;
drop table limits;
grant select (requests_per_second) on api_keys to studio_gateway, studio_operator, studio_worker, studio_auditor;

create function api_key_snapshot()
returns table (id uuid, secret_hash bytea, prefix text, tenant_id uuid, tenant_slug text, scopes text[],
               requests_per_second integer, credit numeric, expires_at timestamptz)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, k.secret_hash, k.prefix, k.tenant_id, t.slug, k.scopes, k.requests_per_second, k.credit, k.expires_at
    from api_keys k join tenants t on t.id = k.tenant_id
    where k.revoked_at is null and t.closed_at is null and (k.expires_at is null or k.expires_at > now())
$$;
revoke execute on function api_key_snapshot() from public;
grant execute on function api_key_snapshot() to studio_gateway;
