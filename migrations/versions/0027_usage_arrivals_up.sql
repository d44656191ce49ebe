-- Usage that no engine can have had, how much has arrived of a day, two persons for a write-off, and exact products.

-- 1. How much has arrived of a day ------------------------------------------------------------------------------------

-- Events of a window day by source, written in the transaction that accepts them. `sealed_events` is the count at which
-- all of them were found in seals: while both are equal, nobody has to look at the events. A count and not a sequence
-- number, because what commits later may have a lower one.
create table usage_arrivals (
    window_day date not null,
    source_id uuid not null,
    events bigint not null,
    sealed_events bigint not null default 0,
    constraint pk_usage_arrivals primary key (window_day, source_id),
    constraint ck_usage_arrivals_sealed_within_events check (sealed_events between 0 and events)
);
insert into usage_arrivals (window_day, source_id, events)
select (started_at at time zone 'Europe/Berlin')::date as day, source_id, count(*) from usage_events group by day, source_id;
alter table usage_arrivals enable row level security, force row level security;
create policy all_tenants on usage_arrivals
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);
grant select on usage_arrivals to studio_operator, studio_worker, studio_auditor;
grant update (sealed_events) on usage_arrivals to studio_worker;

-- 2. Tokens have a bound ----------------------------------------------------------------------------------------------

-- As in 0025, but that an event is impossible, too, with more tokens than a request or a fine-tune can have, or when its
-- id is of another day than its start; and that arrivals are counted. There is no check on the table: an event of before
-- would stop the upgrade. Counting puts such a one into quarantine (`billing/usage.py`).
create or replace function accept_usage(shipment uuid, out accepted bigint, out known bigint, out quarantined bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    day date;
begin
    quarantined := 0;
    for day in select distinct usage_day_utc from usage_staging where shipment_id = shipment loop
        perform ensure_usage_partition(day);
    end loop;

    with refused as (
        delete from usage_staging s
        where s.shipment_id = shipment
          and not (s.prompt_tokens >= 0 and s.completion_tokens >= 0
                   and s.cached_tokens between 0 and s.prompt_tokens
                   and s.reasoning_tokens between 0 and s.completion_tokens
                   and s.reused_prompt_tokens between 0 and s.prompt_tokens - s.cached_tokens
                   and s.reused_completion_tokens between 0 and s.completion_tokens
                   and (s.replica_id is not null or s.endpoint = '/v1/fine_tuning/jobs'
                        or (s.reused_prompt_tokens = s.prompt_tokens
                            and s.reused_completion_tokens = s.completion_tokens))
                   -- As MOST_TOKENS in studio/db/usage.py: such sums of a day fit into 64 bits.
                   and greatest(s.prompt_tokens, s.completion_tokens, s.engine_prompt_tokens) <= 1000000000000
                   and coalesce(s.engine_prompt_tokens, 0) >= 0
                   -- Both are the instant of its start. Sealing looks for a day's events no further than a day beside it.
                   and s.usage_day_utc between (s.started_at at time zone 'UTC')::date - 1
                                           and (s.started_at at time zone 'UTC')::date + 1
                   and s.end_reason in ('complete', 'client_left', 'engine_died', 'budget', 'rejected')
                   and s.usage_origin in ('engine', 'count'))
        returning s.*
    ), kept as (
        insert into quarantine (reason, event_id, tenant_id, payload)
        select 'tokens or reasons out of range', r.id, r.tenant_id, to_jsonb(r) - 'shipment_id' - 'row' from refused r
        where not exists (
            select 1 from quarantine q where q.event_id = r.id and q.payload = to_jsonb(r) - 'shipment_id' - 'row')
        returning 1
    )
    select quarantined + count(*) into quarantined from kept;

    with inserted as (
        insert into usage_events (
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line, engine_prompt_tokens, reused_prompt_tokens, reused_completion_tokens,
            admitted_at)
        select
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line, engine_prompt_tokens, reused_prompt_tokens, reused_completion_tokens,
            admitted_at
        from usage_staging where shipment_id = shipment
        order by row
        on conflict do nothing
        returning source_id, started_at
    ), arrived as (
        insert into usage_arrivals as a (window_day, source_id, events)
        select (i.started_at at time zone 'Europe/Berlin')::date, i.source_id, count(*)
        from inserted i group by 1, 2 order by 1, 2
        on conflict (window_day, source_id) do update set events = a.events + excluded.events
    ), advanced as (
        update usage_sources u set last_seq = greatest(u.last_seq, i.seq)
        from (select source_id, max(source_seq) as seq from usage_staging where shipment_id = shipment group by 1) i
        where u.id = i.source_id
    )
    select count(*) into accepted from inserted;

    select count(*) - accepted into known from usage_staging where shipment_id = shipment;
    if known > 0 then
        -- The same id with other content: neither version wins. Both stand in quarantine, and an event with an unresolved
        -- entry there is not counted. A replay of the same conflict adds nothing.
        with conflicting as (
            select to_jsonb(s) - 'shipment_id' - 'row' as arrived, to_jsonb(e) - 'ingested_at' as stored, e.id, e.tenant_id
            from usage_staging s join usage_events e using (usage_day_utc, id)
            where s.shipment_id = shipment
        ), kept as (
            insert into quarantine (reason, event_id, tenant_id, payload)
            select 'same id, other content', c.id, c.tenant_id, jsonb_build_object('stored', stored, 'arrived', arrived)
            from conflicting c
            where c.arrived <> c.stored
              and not exists (select 1 from quarantine q where q.event_id = c.id and q.payload -> 'arrived' = c.arrived)
            returning 1
        )
        select quarantined + count(*) into quarantined from kept;
    end if;

    delete from usage_staging where shipment_id = shipment;
end $$;

-- 3. Two persons ------------------------------------------------------------------------------------------------------

-- The mail address in the name of who signed in may change: it makes nobody another person. What was decided before is
-- history and is not looked at again.
alter table write_off_decisions drop constraint ck_write_off_decisions_two_persons;
alter table write_off_decisions add constraint ck_write_off_decisions_two_persons
    check (not is_approved or person_of(decided_by) <> person_of(proposed_by)) not valid;

-- 4. A product is exact, a quotient of numeric is rounded to 16 digits or so ------------------------------------------

alter table rated_lines drop constraint ck_rated_lines_amount_is_tokens_times_price;
alter table rated_lines add constraint ck_rated_lines_amount_is_tokens_times_price
    check (amount * 1000000 = tokens * per_million);
