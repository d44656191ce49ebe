-- Cards that are reserved for one tenant, and their hours as usage. What days cost, in budgets. What a batch's results
-- under way take. Drafts of corrections that were overtaken.

-- 1. GPU hours are sold -------------------------------------------------------------------------------------------------

alter table models drop constraint ck_models_task_known;
alter table models add constraint ck_models_task_known
    check (task in ('chat', 'completion', 'embedding', 'storage', 'gpu'));
alter table prices drop constraint ck_prices_unit_known;
alter table prices add constraint ck_prices_unit_known check (
    unit in ('prompt', 'cached_prompt', 'completion', 'embedding', 'batch_prompt', 'batch_cached_prompt',
            'batch_completion', 'batch_embedding', 'reused', 'training', 'storage', 'gpu_hour'));
alter table prices add constraint ck_prices_gpu_hours_are_of_gpu check ((unit = 'gpu_hour') = (variant_id = 'gpu'));
alter table usage_events drop constraint ck_usage_events_without_engine_all_is_reused;
alter table usage_events add constraint ck_usage_events_without_engine_all_is_reused check (
    replica_id is not null or endpoint in ('/v1/fine_tuning/jobs', 'storage', 'gpu_hour')
    or (reused_prompt_tokens = prompt_tokens and reused_completion_tokens = completion_tokens));
-- The rest of it stays as it is, whichever migration wrote it last.
do $$
declare
    source text := pg_get_functiondef('accept_usage(uuid)'::regprocedure);
    wider text := replace(source, 'in (''/v1/fine_tuning/jobs'', ''storage'')',
                          'in (''/v1/fine_tuning/jobs'', ''storage'', ''gpu_hour'')');
begin
    if wider = source then
        raise exception 'accept_usage has no list of events without an engine';
    end if;
    execute wider;
end $$;

-- Cards that nobody else gets over [valid_from, valid_until). A row only ever receives its end.
create table card_reservations (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_card_reservations_tenant_id_tenants references tenants,
    cards integer not null constraint ck_card_reservations_some check (cards between 1 and 4096),
    valid_from timestamptz not null,
    valid_until timestamptz,
    approved_by text not null,
    reason text not null,
    recorded_at timestamptz not null default now(),
    constraint ck_card_reservations_span_not_empty check (valid_until is null or valid_until > valid_from)
);
create index ix_card_reservations_tenant_id on card_reservations (tenant_id);
create trigger append_only before update or delete on card_reservations
    for each row execute function refuse_price_change();
create trigger append_only_truncate before truncate on card_reservations
    for each statement execute function refuse_change();
grant insert, update (valid_until) on card_reservations to studio_operator;
-- Nothing is reserved that nobody could pay for.
grant execute on function price_at(uuid, text, text, text, timestamptz) to studio_operator;

-- What they came to on a civil day of the tenant's own, by `billing/gpu_hours.py`, and the event that bills it.
create table gpu_days (
    tenant_id uuid not null,
    day date not null,
    time_zone text not null,
    card_microseconds numeric(38, 0) not null,
    micro_hours bigint not null,
    event_id uuid not null,
    measured_at timestamptz not null default now(),
    constraint pk_gpu_days primary key (tenant_id, day),
    constraint fk_gpu_days_tenant_id foreign key (tenant_id) references tenants (id),
    constraint ck_gpu_days_rounded_down check (
        micro_hours > 0 and micro_hours = div(card_microseconds, 3600))
);
create trigger append_only before update or delete on gpu_days for each row execute function refuse_change();
create trigger append_only_truncate before truncate on gpu_days for each statement execute function refuse_change();
grant insert on gpu_days to studio_worker;

do $$
declare
    scoped text;
begin
    foreach scoped in array array['card_reservations', 'gpu_days'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy own_tenant on %I for select to studio_gateway
                        using (tenant_id = current_tenant())', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)',
                       scoped);
        execute format('grant select on %I to studio_gateway, studio_operator, studio_worker, studio_auditor', scoped);
    end loop;
end $$;

-- 2. Budgets hold what days cost ----------------------------------------------------------------------------------------

-- What a day's storage or reserved cards cost, spent of the budgets of its tenant (no key asked for it): once, in the
-- transaction that inserts the event. It was kept already, so it is spent above the amount, too; from then on nothing is
-- free. Locks accounts in the order in which `settle_draws` does.
create function spend_days(events uuid[]) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    account record;
begin
    for account in
        with of_day as (
            select e.tenant_id, e.endpoint, e.variant_id, e.started_at, e.prompt_tokens, b.time_zone
            from usage_events e
            join tenant_billing b on b.tenant_id = e.tenant_id
                 and b.valid_from <= (e.started_at at time zone b.time_zone)::date
                 and (b.valid_until is null or (e.started_at at time zone b.time_zone)::date < b.valid_until)
            where e.id = any(events) and e.endpoint in ('storage', 'gpu_hour')
              and e.usage_day_utc in (
                  select (uuid_extract_timestamp(i) at time zone 'UTC')::date from unnest(events) as of (i))
        )
        select g.id as budget_id,
               case when g.kind = 'monthly' then date_trunc('month', d.started_at at time zone d.time_zone)::date
                    else (g.created_at at time zone 'UTC')::date end as period,
               sum(d.prompt_tokens * p.per_million) / 1000000 as cost
        from of_day d
        join budgets g on g.tenant_id = d.tenant_id and g.api_key_id is null and g.created_at <= d.started_at
             and (g.ended_at is null or d.started_at < g.ended_at)
        cross join lateral price_at(d.tenant_id, g.currency, d.variant_id, d.endpoint, d.started_at) p
        group by 1, 2
        order by 1, 2
    loop
        insert into budget_accounts (budget_id, period) values (account.budget_id, account.period)
        on conflict do nothing;
        update budget_accounts set spent = spent + account.cost
        where budget_id = account.budget_id and period = account.period;
    end loop;
end $$;
revoke execute on function spend_days(uuid[]) from public;
grant execute on function spend_days(uuid[]) to studio_worker;

-- 3. Results of a batch under way are kept, too -------------------------------------------------------------------------

-- Null: committed before they were counted.
alter table batch_shards add column result_bytes bigint
    constraint ck_batch_shards_result_bytes_not_negative check (result_bytes >= 0);

-- 4. What fine-tunes draw ------------------------------------------------------------------------------------------------

alter table card_energy add column fine_tune_id uuid;
alter table card_energy add constraint ck_card_energy_one_holder check (variant_id is null or fine_tune_id is null);
drop index uq_card_energy;
create unique index uq_card_energy on card_energy (hour, card, variant_id, fine_tune_id) nulls not distinct;
create index ix_card_energy_fine_tune_id on card_energy (fine_tune_id) where fine_tune_id is not null;

-- 5. Drafts of corrections that were overtaken --------------------------------------------------------------------------

alter table corrections drop constraint ck_corrections_state_known;
alter table corrections add constraint ck_corrections_state_known check (state in ('draft', 'final', 'void'));
-- It never has a number; who ordered it, and who said yes to it, stays.
create function void_correction(correction uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update corrections set state = 'void' where id = correction and state = 'draft';
    return found;
end $$;
revoke execute on function void_correction(uuid) from public;
grant execute on function void_correction(uuid) to studio_operator, studio_worker;
