alter table invoices drop constraint ck_invoices_rounding_mode_known;
delete from margin_daily where is_training or (currency <> 'EUR' and margin is not null);
alter table margin_daily drop constraint ck_margin_daily_margin_is_what_is_left;
alter table margin_daily add constraint ck_margin_daily_margin_is_what_is_left check (margin = revenue - cost);
alter table margin_daily drop constraint ck_margin_daily_margin_has_its_rate;
drop index uq_margin_daily;
alter table margin_daily drop column units_per_euro, drop column is_training;
create unique index uq_margin_daily on margin_daily (day, tenant_id, variant_id, currency) nulls not distinct;
drop table rounding_modes;
drop table storage_days;

-- Refused, rightly, once storage has been metered: usage is never dropped.
alter table usage_events drop constraint ck_usage_events_without_engine_all_is_reused;
alter table usage_events add constraint ck_usage_events_without_engine_all_is_reused check (
    replica_id is not null or endpoint = '/v1/fine_tuning/jobs'
    or (reused_prompt_tokens = prompt_tokens and reused_completion_tokens = completion_tokens));

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

alter table prices drop constraint ck_prices_storage_is_of_storage;
alter table prices drop constraint ck_prices_unit_known;
alter table prices add constraint ck_prices_unit_known check (
    unit in ('prompt', 'cached_prompt', 'completion', 'embedding', 'batch_prompt', 'batch_cached_prompt',
            'batch_completion', 'batch_embedding', 'reused', 'training'));
alter table models drop constraint ck_models_task_known;
alter table models add constraint ck_models_task_known check (task in ('chat', 'completion', 'embedding'));
