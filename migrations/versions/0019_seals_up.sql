-- Sealed usage in the archive, decisions on quarantined usage, readings of busy engines.

-- 1. Where the events of a seal lie in the object store ---------------------------------------------------------------

create table usage_archives (
    window_day date not null,
    tenant_id uuid not null,
    seal_no integer not null,
    object_key text not null,
    sha256 text not null,
    bytes bigint not null,
    schema_version integer not null,
    events bigint not null,
    fingerprint numeric(38, 0) not null,
    archived_at timestamptz not null default now(),
    constraint pk_usage_archives primary key (window_day, tenant_id, seal_no),
    constraint fk_usage_archives_window_day_tenant_id_seal_no foreign key (window_day, tenant_id, seal_no)
        references usage_windows (window_day, tenant_id, seal_no),
    constraint ck_usage_archives_events_at_least_one check (events >= 1)
);
create trigger append_only before update or delete on usage_archives for each row execute function refuse_change();
create trigger append_only_truncate before truncate on usage_archives
    for each statement execute function refuse_change();
alter table usage_archives enable row level security, force row level security;
create policy all_tenants on usage_archives
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);
grant select on usage_archives to studio_operator, studio_worker, studio_auditor;
grant insert on usage_archives to studio_worker;

-- 2. How far a source is proven complete ------------------------------------------------------------------------------

-- Events and quarantine only ever grow, so what is proven stays proven: each seal looks at the newest numbers alone, and
-- goes on looking when an old partition was dropped.
alter table usage_sources add column proven_seq bigint not null default 0;

create function prove_source(source uuid, upto bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    proven bigint;
    missing bigint;
begin
    select s.proven_seq into proven from usage_sources s where s.id = source;
    if upto <= proven then
        return 0;
    end if;
    select upto - proven - count(*) into missing
    from (
        select e.source_seq from usage_events e
        where e.source_id = source and e.source_seq > proven and e.source_seq <= upto
        union
        select coalesce(q.payload -> 'arrived' ->> 'source_seq', q.payload ->> 'source_seq')::bigint
        from quarantine q
        where coalesce(q.payload -> 'arrived' ->> 'source_id', q.payload ->> 'source_id') = source::text
    ) as accounted (source_seq)
    where accounted.source_seq > proven and accounted.source_seq <= upto;
    if missing = 0 then
        update usage_sources s set proven_seq = greatest(s.proven_seq, upto) where s.id = source;
    end if;
    return missing;
end $$;
revoke execute on function prove_source(uuid, bigint) from public;
grant execute on function prove_source(uuid, bigint) to studio_worker, studio_operator;

-- 3. A day's partition goes only when the archive has it --------------------------------------------------------------

-- Not a security definer: to drop a table is the owner's, and so is this.
create function drop_archived_usage(day date) returns bigint
language plpgsql set search_path = public, pg_temp as $$
declare
    partition text := 'usage_events_' || to_char(day, 'YYYYMMDD');
    source record;
    kept bigint;
    dropped bigint;
begin
    if to_regclass(partition) is null then
        raise exception 'there is no partition % of usage_events', partition using errcode = 'undefined_table';
    end if;
    execute format('lock table %I in access exclusive mode', partition);
    select count(*) into kept
    from usage_events e
    where e.usage_day_utc = day
      and not exists (select 1 from tenants t where t.id = e.tenant_id and t.is_internal)
      and not exists (
        select 1
        from usage_archives a
        join usage_windows w using (window_day, tenant_id, seal_no)
        cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
        where a.tenant_id = e.tenant_id and a.window_day = (e.started_at at time zone 'Europe/Berlin')::date
          and w.state = 'reconciled' and r.source_id = e.source_id
          and e.source_seq >= r.from_seq and e.source_seq < r.until_seq);
    if kept > 0 then
        raise exception '% events of % are in no archived and reconciled seal', kept, day
            using errcode = 'restrict_violation';
    end if;
    -- An engine is compared with all events of its life.
    if exists (select 1 from replicas r
               where r.kind = 'process' and r.state in ('starting', 'ready', 'draining') and r.created_at < day + 1) then
        raise exception 'an engine of % still runs, and is compared with all its events', day
            using errcode = 'restrict_violation';
    end if;
    -- What is missing afterwards must have been proven to be there.
    for source in select e.source_id, max(e.source_seq) as seq from usage_events e where e.usage_day_utc = day group by 1
    loop
        if prove_source(source.source_id, source.seq) > 0 then
            raise exception 'the source % has a gap before its number %', source.source_id, source.seq
                using errcode = 'restrict_violation';
        end if;
    end loop;
    select count(*) into dropped from usage_events e where e.usage_day_utc = day;
    execute format('drop table %I', partition);
    return dropped;
end $$;
revoke execute on function drop_archived_usage(date) from public;

-- 4. What a person decided about something in quarantine --------------------------------------------------------------

alter table quarantine
    add column decision text,
    add column decided_by text,
    add column decision_reason text,
    add constraint ck_quarantine_decision_known check (decision in ('released', 'discarded')),
    add constraint ck_quarantine_decision_explained
        check ((decision is null) = (decided_by is null) and (decision is null) = (decision_reason is null)
               and (decision is null or resolved_at is not null));
create index ix_quarantine_event_id on quarantine (event_id);
grant update (resolved_at, decision, decided_by, decision_reason) on quarantine to studio_operator;

-- For receipts, which a tenant makes with its own eyes and which must not charge for what a person has given up.
create function is_discarded(event uuid, tenant uuid) returns boolean
language sql stable security definer set search_path = public, pg_temp as $$
    select exists (select from quarantine q
                   where q.event_id = event and q.tenant_id = tenant and q.decision = 'discarded')
       and coalesce(current_tenant() = tenant, true)
$$;
revoke execute on function is_discarded(uuid, uuid) from public;
grant execute on function is_discarded(uuid, uuid) to studio_gateway, studio_worker, studio_auditor;

-- 5. Readings of engines that are never idle --------------------------------------------------------------------------

-- How many requests ran or waited in the engine when its counters were read. Zero: they are exact.
alter table engine_counters add column requests integer not null default 0;
alter table engine_counters add constraint ck_engine_counters_requests_not_negative check (requests >= 0);
create index ix_engine_counters_replica_id_idle on engine_counters (replica_id, observed_at) where requests = 0;

-- 6. A shipment in which everything is new holds no conflict ----------------------------------------------------------

-- As in 0018, but that events are compared only where some were there already. Every event was compared with itself before,
-- as two JSON documents, which took half of the time.
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
                   and (s.replica_id is not null or (s.reused_prompt_tokens = s.prompt_tokens
                                                     and s.reused_completion_tokens = s.completion_tokens))
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
        returning source_id, source_seq
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
