-- Budgets of tenants and keys. The truth about money is here: a gateway draws a part of a budget before it spends it, so
-- however many gateways there are, and whatever becomes of them, nobody spends more than there is.

create table budgets (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_budgets_tenant_id_tenants references tenants,
    api_key_id uuid constraint fk_budgets_api_key_id_api_keys references api_keys,
    kind text not null constraint ck_budgets_kind_known check (kind in ('prepaid', 'monthly')),
    currency text not null constraint ck_budgets_currency_known check (currency in ('EUR', 'CNY')),
    amount numeric(18, 6) not null constraint ck_budgets_not_negative check (amount >= 0),
    created_at timestamptz not null default now(),
    ended_at timestamptz
);
create index ix_budgets_tenant_id on budgets (tenant_id);
create unique index uq_budgets_live on budgets (tenant_id, api_key_id, kind) nulls not distinct where ended_at is null;

create table budget_accounts (
    budget_id uuid not null constraint fk_budget_accounts_budget_id_budgets references budgets,
    period date not null,
    spent numeric(38, 12) not null default 0 constraint ck_budget_accounts_not_negative check (spent >= 0),
    primary key (budget_id, period)
);

create table budget_draws (
    budget_id uuid not null,
    period date not null,
    source_id uuid not null,
    amount numeric(38, 12) not null constraint ck_budget_draws_not_negative check (amount >= 0),
    drawn_at timestamptz not null default now(),
    primary key (budget_id, period, source_id),
    constraint fk_budget_draws_budget_id_budget_accounts foreign key (budget_id, period)
        references budget_accounts (budget_id, period)
);
create index ix_budget_draws_source_id on budget_draws (source_id);

-- 1. What keys had as credit becomes a budget -------------------------------------------------------------------------

insert into budgets (id, tenant_id, api_key_id, kind, currency, amount, created_at, ended_at)
select k.id, k.tenant_id, k.id, 'prepaid', b.currency, k.credit, k.created_at, k.revoked_at
from api_keys k
join tenant_billing b on b.tenant_id = k.tenant_id and b.valid_from <= current_date
     and (b.valid_until is null or current_date < b.valid_until)
where k.credit is not null;

-- What they have spent, by the source that told of it. Sources that may still tell more (a gateway that was killed, whose
-- journal nobody has adopted yet) hold theirs as a draw, so that it is settled when everything has arrived.
create temporary table spent_by_source on commit drop as
select k.id as api_key_id, (k.created_at at time zone 'UTC')::date as period, e.source_id,
       sum(u.tokens * p.per_million) / 1000000 as spent
from api_keys k
join budgets g on g.id = k.id
join usage_events e on e.api_key_id = k.id and e.tenant_id = k.tenant_id and e.batch_id is null
     and e.started_at >= k.created_at and e.usage_day_utc >= (k.created_at at time zone 'UTC')::date
join models m on m.id = e.model_id
cross join lateral (values
    ('embedding', case when m.task = 'embedding' then e.prompt_tokens else 0 end),
    ('prompt', case when m.task = 'embedding' then 0 else e.prompt_tokens - e.cached_tokens end),
    ('cached_prompt', case when m.task = 'embedding' then 0 else e.cached_tokens end),
    ('completion', e.completion_tokens)) as u (unit, tokens)
join prices p on p.variant_id = e.variant_id and p.unit = u.unit and p.currency = g.currency
     and p.valid_from <= e.started_at and (p.valid_until is null or e.started_at < p.valid_until)
group by 1, 2, 3;

insert into budget_accounts (budget_id, period, spent)
select k.id, (k.created_at at time zone 'UTC')::date, coalesce(sum(s.spent) filter (where u.closed_at is not null), 0)
from api_keys k
join budgets g on g.id = k.id
left join spent_by_source s on s.api_key_id = k.id
left join usage_sources u on u.id = s.source_id
group by 1, 2;

insert into budget_draws (budget_id, period, source_id, amount)
select a.budget_id, a.period, u.id, coalesce(s.spent, 0)
from budget_accounts a
cross join usage_sources u
left join spent_by_source s on s.api_key_id = a.budget_id and s.source_id = u.id
where u.closed_at is null and u.kind = 'journal';

drop function key_spending(uuid[]);
alter table api_keys drop column credit;

drop function api_key_snapshot();
create function api_key_snapshot()
returns table (id uuid, secret_hash bytea, prefix text, tenant_id uuid, tenant_slug text, scopes text[],
               expires_at timestamptz)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.id, k.secret_hash, k.prefix, k.tenant_id, t.slug, k.scopes, k.expires_at
    from api_keys k join tenants t on t.id = k.tenant_id
    where k.revoked_at is null and t.closed_at is null and (k.expires_at is null or k.expires_at > now())
$$;

-- 2. What a gateway may ask -------------------------------------------------------------------------------------------

-- Every budget that holds today. Monthly ones begin anew on the first day of a month in the tenant's own zone.
create function budget_snapshot()
returns table (id uuid, tenant_id uuid, api_key_id uuid, kind text, currency text, amount numeric, created_at timestamptz,
               time_zone text)
language sql stable security definer set search_path = public, pg_temp as $$
    select g.id, g.tenant_id, g.api_key_id, g.kind, g.currency, g.amount, g.created_at, b.time_zone
    from budgets g
    join tenant_billing b on b.tenant_id = g.tenant_id and b.valid_from <= current_date
         and (b.valid_until is null or current_date < b.valid_until)
    where g.ended_at is null
$$;

-- Money for a source of usage to spend: `needed` if there is as much, and up to 64 times that while it is at most a
-- sixteenth of what is free, so that a busy gateway seldom asks and an idle one holds little back from the others.
create function draw_budget(budget uuid, in_period date, source uuid, needed numeric, out granted numeric, out free numeric)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    total numeric;
    closed timestamptz;
begin
    if needed <= 0 then
        raise exception 'nothing is drawn by drawing %', needed using errcode = 'check_violation';
    end if;
    -- Whoever closes a source settles it in the same transaction: what is drawn afterwards would never be settled.
    select u.closed_at into closed from usage_sources u where u.id = source for share;
    if closed is not null then
        raise exception 'source % is closed', source using errcode = 'object_not_in_prerequisite_state';
    end if;
    insert into budget_accounts (budget_id, period) values (budget, in_period) on conflict do nothing;
    select g.amount - a.spent into total
    from budget_accounts a join budgets g on g.id = a.budget_id
    where a.budget_id = budget and a.period = in_period
    for update of a;  -- all who draw from this account take turns
    select greatest(0, total - coalesce(sum(d.amount), 0)) into free
    from budget_draws d where d.budget_id = budget and d.period = in_period;
    granted := least(free, greatest(needed, least(needed * 64, free / 16)));
    free := free - granted;
    if granted > 0 then
        insert into budget_draws as d (budget_id, period, source_id, amount) values (budget, in_period, source, granted)
        on conflict (budget_id, period, source_id) do update set amount = d.amount + excluded.amount;
    end if;
end $$;

-- What a source does not need goes back. It must not have spent it.
create function return_to_budget(budget uuid, in_period date, source uuid, unused numeric) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if unused < 0 then
        raise exception 'a negative amount cannot be returned' using errcode = 'check_violation';
    end if;
    perform 1 from budget_accounts a where a.budget_id = budget and a.period = in_period for update;
    update budget_draws d set amount = d.amount - unused
    where d.budget_id = budget and d.period = in_period and d.source_id = source;
end $$;

-- What a source has spent of each budget that it drew from, by its own events, and nothing else of what it drew: called
-- when all its events have arrived. Until then everything it drew counts as spent.
create function settle_draws(source uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    draw record;
begin
    -- What it all cost is known before anything is locked: others draw from the same accounts meanwhile.
    for draw in
        with held as (
            select d.budget_id, d.period, g.tenant_id, g.api_key_id, g.kind, g.currency, g.created_at, g.ended_at,
                   b.time_zone
            from budget_draws d
            join budgets g on g.id = d.budget_id
            join tenant_billing b on b.tenant_id = g.tenant_id and b.valid_from <= current_date
                 and (b.valid_until is null or current_date < b.valid_until)
            where d.source_id = source
        ), costs as (
            select h.budget_id, h.period, sum(u.tokens * p.per_million) / 1000000 as cost
            from held h
            join usage_events e on e.source_id = source and e.tenant_id = h.tenant_id
                 and (h.api_key_id is null or e.api_key_id = h.api_key_id)
                 and e.usage_day_utc >= (h.created_at at time zone 'UTC')::date and e.started_at >= h.created_at
                 and (h.ended_at is null or e.started_at < h.ended_at)
                 and (h.kind = 'prepaid' or date_trunc('month', e.started_at at time zone h.time_zone)::date = h.period)
            join models m on m.id = e.model_id
            cross join lateral (values
                ('embedding', case when m.task = 'embedding' then e.prompt_tokens else 0 end),
                ('prompt', case when m.task = 'embedding' then 0 else e.prompt_tokens - e.cached_tokens end),
                ('cached_prompt', case when m.task = 'embedding' then 0 else e.cached_tokens end),
                ('completion', e.completion_tokens)) as u (unit, tokens)
            join prices p on p.variant_id = e.variant_id
                 and p.unit = case when e.batch_id is null then '' else 'batch_' end || u.unit
                 and p.currency = h.currency
                 and p.valid_from <= e.started_at and (p.valid_until is null or e.started_at < p.valid_until)
            group by 1, 2
        )
        select h.budget_id, h.period, coalesce(c.cost, 0) as cost
        from held h left join costs c using (budget_id, period)
        order by 1, 2
    loop
        update budget_accounts set spent = spent + draw.cost
        where budget_id = draw.budget_id and period = draw.period;
        delete from budget_draws
        where budget_id = draw.budget_id and period = draw.period and source_id = source;
    end loop;
end $$;

create trigger notify_keys after insert or update or delete on budgets
    for each statement execute function notify_channel('studio_keys');

-- 3. Who may do what --------------------------------------------------------------------------------------------------

alter table budgets enable row level security, force row level security;
create policy own_tenant on budgets for select to studio_gateway using (tenant_id = current_tenant());
create policy all_tenants on budgets
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);

do $$
declare
    scoped text;
begin
    -- The children of a budget follow the budget: the subquery is itself under row-level security.
    foreach scoped in array array['budget_accounts', 'budget_draws'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy own_tenant on %I for select to studio_gateway
                        using (exists (select 1 from budgets b where b.id = budget_id))', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
end $$;

revoke execute on function api_key_snapshot(), budget_snapshot(), draw_budget(uuid, date, uuid, numeric),
    return_to_budget(uuid, date, uuid, numeric), settle_draws(uuid) from public;
grant execute on function api_key_snapshot(), budget_snapshot(), draw_budget(uuid, date, uuid, numeric),
    return_to_budget(uuid, date, uuid, numeric) to studio_gateway;
grant execute on function budget_snapshot(), draw_budget(uuid, date, uuid, numeric),
    return_to_budget(uuid, date, uuid, numeric), settle_draws(uuid) to studio_worker;
grant execute on function settle_draws(uuid) to studio_shipper;
grant select on budgets, budget_accounts, budget_draws to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant insert, update (amount, ended_at) on budgets to studio_operator;
