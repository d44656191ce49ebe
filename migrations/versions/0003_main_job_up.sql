-- Prompts of several choices as engines count them; files whose bytes are gone; the name that a batch asked for; what
-- claims of shards and sweeps of bytes need.

alter table usage_events add column engine_prompt_tokens bigint;
alter table usage_staging add column engine_prompt_tokens bigint;

alter table files add column bytes_deleted_at timestamptz;
create index ix_files_deleted_with_bytes on files (deleted_at) where bytes_deleted_at is null;
create index ix_files_expiring_with_bytes on files (expires_at) where bytes_deleted_at is null;

alter table batches add column model text;
create index ix_batch_shards_leased on batch_shards (tenant_id) where state = 'leased';
create index ix_batch_shards_unfinished on batch_shards (batch_id, line_from) where state <> 'done';
create index ix_batch_shards_with_results on batch_shards (batch_id)
    where output_key is not null or error_key is not null;

-- An override that is ended before it begins has an empty span.
alter table hours_overrides drop constraint ck_hours_overrides_span_not_empty;
alter table hours_overrides add constraint ck_hours_overrides_span_not_negative
    check (ends_at is null or ends_at >= starts_at);

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
                   and s.end_reason in ('complete', 'client_left', 'engine_died', 'budget', 'rejected')
                   and s.usage_origin in ('engine', 'count'))
        returning s.*
    ), kept as (
        insert into quarantine (reason, event_id, tenant_id, payload)
        select 'tokens or reasons out of range', r.id, r.tenant_id, to_jsonb(r) - 'shipment_id' - 'row' from refused r
        returning 1
    )
    select quarantined + count(*) into quarantined from kept;

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

    with inserted as (
        insert into usage_events (
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line, engine_prompt_tokens)
        select
            usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
            variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at, ended_at, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin, adapter_id,
            batch_id, batch_line, engine_prompt_tokens
        from usage_staging where shipment_id = shipment
        order by row
        on conflict do nothing
        returning source_id, source_seq
    ), advanced as (
        update usage_sources u set last_seq = greatest(u.last_seq, i.seq)
        from (select source_id, max(source_seq) as seq from usage_staging where shipment_id = shipment group by 1) i
        where u.id = i.source_id
    )
    select count(*) into accepted from inserted;

    select count(*) - accepted into known from usage_staging where shipment_id = shipment;
    delete from usage_staging where shipment_id = shipment;
end $$;

-- Batches are not among a key's spending: keys with a credit cannot create them.
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

grant update (bytes_deleted_at) on files to studio_gateway;
grant execute on function served_adapters() to studio_worker;
