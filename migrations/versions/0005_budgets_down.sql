-- Back to credits of keys. Budgets of tenants and monthly ones are lost.

alter table api_keys add column credit numeric(18, 6) constraint ck_api_keys_credit_not_negative check (credit >= 0);
update api_keys k set credit = g.amount from budgets g where g.api_key_id = k.id and g.kind = 'prepaid';

drop function settle_draws(uuid);
drop function return_to_budget(uuid, date, uuid, numeric);
drop function draw_budget(uuid, date, uuid, numeric);
drop function budget_snapshot();
drop table budget_draws;
drop table budget_accounts;
drop table budgets;

drop function api_key_snapshot();
create function api_key_snapshot()
returns table (id uuid, secret_hash bytea, prefix text, tenant_id uuid, tenant_slug text, scopes text[],
               credit numeric, expires_at timestamptz)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, k.secret_hash, k.prefix, k.tenant_id, t.slug, k.scopes, k.credit, k.expires_at
    from api_keys k join tenants t on t.id = k.tenant_id
    where k.revoked_at is null and t.closed_at is null and (k.expires_at is null or k.expires_at > now())
$$;
create or replace function key_spending(known uuid[])
returns table (api_key_id uuid, currency text, credit numeric, spent numeric)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, b.currency, k.credit, coalesce((
        select sum(u.tokens * p.per_million) / 1000000
        from usage_events e
        join models m on m.id = e.model_id
        cross join lateral (values
            ('embedding', case when m.task = 'embedding' then e.prompt_tokens else 0 end),
            ('prompt', case when m.task = 'embedding' then 0 else e.prompt_tokens - e.cached_tokens end),
            ('cached_prompt', case when m.task = 'embedding' then 0 else e.cached_tokens end),
            ('completion', e.completion_tokens)) as u (unit, tokens)
        join prices p on p.variant_id = e.variant_id and p.unit = u.unit and p.currency = b.currency
             and p.valid_from <= e.started_at and (p.valid_until is null or e.started_at < p.valid_until)
        where e.api_key_id = k.id and e.tenant_id = k.tenant_id and e.batch_id is null and e.started_at >= k.created_at
          and e.usage_day_utc >= (k.created_at at time zone 'UTC')::date), 0)
    from api_keys k
    join tenant_billing b on b.tenant_id = k.tenant_id and b.valid_from <= current_date
         and (b.valid_until is null or current_date < b.valid_until)
    where k.credit is not null and k.revoked_at is null and k.id <> all (known)
$$;
revoke execute on function api_key_snapshot(), key_spending(uuid[]) from public;
grant execute on function api_key_snapshot(), key_spending(uuid[]) to studio_gateway;
grant select (credit) on api_keys to studio_gateway, studio_operator, studio_worker, studio_auditor;
