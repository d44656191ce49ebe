-- What `/v1/usage` adds up, added up once for each day: a tenant of millions of requests gets its month at once, too.

create table usage_sums (
    id uuid not null default uuidv7(),
    window_day date not null,
    tenant_id uuid not null,
    usage_day_utc date not null,
    variant_id text not null,
    api_key_id uuid not null,
    tag text,
    requests bigint not null,
    prompt_tokens bigint not null,
    cached_tokens bigint not null,
    completion_tokens bigint not null,
    reused_tokens bigint not null,
    constraint pk_usage_sums primary key (id)
);
create unique index uq_usage_sums
    on usage_sums (tenant_id, window_day, usage_day_utc, variant_id, api_key_id, tag) nulls not distinct;
-- The index above finds what a report wants, this one what a day's summing replaces.
create index ix_usage_sums_window_day on usage_sums (window_day);
alter table usage_sums enable row level security, force row level security;
create policy all_tenants on usage_sums
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);
create policy own_tenant on usage_sums for select to studio_gateway using (tenant_id = current_tenant());
grant select on usage_sums to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant insert, delete on usage_sums to studio_worker;

-- How many events of a day are in its sums, those of no request among them. While `usage_arrivals` counts as many, the
-- sums are all there is; when more arrives, readers go back to the events until the day is summed again.
create table usage_summed_days (
    window_day date not null,
    events bigint not null,
    summed_at timestamptz not null default now(),
    constraint pk_usage_summed_days primary key (window_day),
    constraint ck_usage_summed_days_events_not_negative check (events >= 0)
);
alter table usage_summed_days enable row level security, force row level security;
create policy all_tenants on usage_summed_days
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);
grant select on usage_summed_days to studio_operator, studio_worker, studio_auditor;
grant insert, update on usage_summed_days to studio_worker;

-- For the gateway, which must not see how much others use.
create function summed_days(first date, last date) returns setof date
language sql stable security definer set search_path = public, pg_temp as $$
    select d.at::date
    from generate_series(first::timestamp, last::timestamp, interval '1 day') as d (at)
    left join usage_summed_days s on s.window_day = d.at::date
    where coalesce(s.events, 0)
          = coalesce((select sum(a.events) from usage_arrivals a where a.window_day = d.at::date), 0)
$$;
revoke execute on function summed_days(date, date) from public;
grant execute on function summed_days(date, date) to studio_gateway, studio_operator, studio_worker, studio_auditor;

-- The days that are over; a day of which a part is gone has no sums.
with added as (
    select (e.started_at at time zone 'Europe/Berlin')::date as window_day, e.tenant_id, e.usage_day_utc, e.variant_id,
           e.api_key_id, e.tag, e.endpoint in ('/v1/fine_tuning/jobs', 'storage') as is_of_no_request,
           count(*) as requests, sum(e.prompt_tokens) as prompt_tokens, sum(e.cached_tokens) as cached_tokens,
           sum(e.completion_tokens) as completion_tokens,
           sum(e.reused_prompt_tokens + e.reused_completion_tokens) as reused_tokens
    from usage_events e
    group by 1, 2, 3, 4, 5, 6, 7
), whole as (
    select window_day, sum(requests) as events
    from added
    where window_day < (now() at time zone 'Europe/Berlin')::date
    group by window_day
    having sum(requests) = (select sum(a.events) from usage_arrivals a where a.window_day = added.window_day)
), marked as (
    insert into usage_summed_days (window_day, events) select window_day, events from whole
)
insert into usage_sums (window_day, tenant_id, usage_day_utc, variant_id, api_key_id, tag, requests, prompt_tokens,
                        cached_tokens, completion_tokens, reused_tokens)
select window_day, tenant_id, usage_day_utc, variant_id, api_key_id, tag, requests, prompt_tokens, cached_tokens,
       completion_tokens, reused_tokens
from added join whole using (window_day)
where not is_of_no_request;
