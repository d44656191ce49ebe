-- People in browsers: their sessions, one-time links for machines without a provider; how fast models were; who tries.

create table web_sessions (
    id uuid default uuidv7() not null,
    token_hash bytea not null,
    user_id uuid not null,
    origin text not null,
    tenants text[] not null,
    roles text[] not null,
    everywhere text[] not null,
    tenant_id uuid,
    provider_session text,
    id_token bytea,
    created_at timestamptz default now() not null,
    idle_until timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    constraint pk_web_sessions primary key (id),
    constraint uq_web_sessions_token_hash unique (token_hash),
    constraint fk_web_sessions_user_id foreign key (user_id) references users (id),
    constraint fk_web_sessions_tenant_id foreign key (tenant_id) references tenants (id),
    constraint ck_web_sessions_origin_known check (origin in ('oidc', 'link')),
    constraint ck_web_sessions_hash_is_sha256 check (octet_length(token_hash) = 32),
    constraint ck_web_sessions_ends check (expires_at <= created_at + interval '30 days')
);
create index ix_web_sessions_user_id on web_sessions (user_id);

create table signin_links (
    id uuid default uuidv7() not null,
    token_hash bytea not null,
    name text not null,
    tenants text[] not null,
    roles text[] not null,
    everywhere text[] not null,
    created_by text not null,
    created_at timestamptz default now() not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    constraint pk_signin_links primary key (id),
    constraint uq_signin_links_token_hash unique (token_hash),
    constraint ck_signin_links_hash_is_sha256 check (octet_length(token_hash) = 32),
    constraint ck_signin_links_short_lived check (expires_at <= created_at + interval '1 hour')
);

-- Both hold in all gateways at once: what ended or acts for another tenant is read again.
create trigger notify_sessions after update of ended_at, tenant_id on web_sessions
    for each statement execute function notify_channel('studio_sessions');

-- What the gateway may do with them: only with the hash of a secret that it was shown ---------------------------------

create function start_web_session(
    session_id uuid, hash bytea, person uuid, came_by text, named text[], held text[], held_everywhere text[],
    acts_for uuid, sid text, sealed_id_token bytea, idle timestamptz, ends timestamptz, actor text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    -- Here, since somebody signs in far more rarely than they ask: nobody needs what ended a month ago.
    delete from web_sessions w where w.expires_at < now() - interval '30 days';
    delete from signin_links l where l.expires_at < now() - interval '30 days';
    insert into web_sessions (id, token_hash, user_id, origin, tenants, roles, everywhere, tenant_id, provider_session,
                              id_token, idle_until, expires_at)
    values (session_id, hash, person, came_by, named, held, held_everywhere, acts_for, sid, sealed_id_token, idle, ends);
    insert into audit_log (actor, action, subject, tenant_id, details)
    values (actor, 'session.start', 'ses_' || replace(session_id::text, '-', ''), acts_for,
            jsonb_build_object('origin', came_by));
end $$;

create function live_web_sessions(hashes bytea[]) returns table (
    token_hash bytea, id uuid, user_id uuid, issuer text, subject text, email text, name text, origin text,
    tenants text[], roles text[], everywhere text[], tenant text, id_token bytea, idle_until timestamptz,
    expires_at timestamptz)
language sql stable security definer set search_path = public, pg_temp as $$
    select w.token_hash, w.id, u.id, u.issuer, u.subject, u.email, u.name, w.origin, w.tenants, w.roles, w.everywhere,
           t.slug, w.id_token, w.idle_until, w.expires_at
    from web_sessions w join users u on u.id = w.user_id
         left join tenants t on t.id = w.tenant_id and t.closed_at is null
    where w.token_hash = any (hashes) and w.ended_at is null and w.expires_at > now() and w.idle_until > now()
$$;

create function touch_web_sessions(hashes bytea[], until timestamptz) returns void
language sql security definer set search_path = public, pg_temp as $$
    update web_sessions w set idle_until = greatest(w.idle_until, until)
    where w.token_hash = any (hashes) and w.ended_at is null
$$;

create function choose_web_tenant(hash bytea, acts_for uuid) returns void
language sql security definer set search_path = public, pg_temp as $$
    update web_sessions w set tenant_id = acts_for where w.token_hash = hash and w.ended_at is null
$$;

create function end_web_session(hash bytea, actor text) returns void
language sql security definer set search_path = public, pg_temp as $$
    with ended as (
        update web_sessions w set ended_at = now() where w.token_hash = hash and w.ended_at is null
        returning w.id, w.tenant_id
    )
    insert into audit_log (actor, action, subject, tenant_id, details)
    select actor, 'session.end', 'ses_' || replace(id::text, '-', ''), tenant_id, '{}' from ended
$$;

-- The provider says that somebody signed out: in one of its sessions (sid), or everywhere.
create function end_provider_sessions(of_issuer text, of_subject text, sid text) returns bigint
language sql security definer set search_path = public, pg_temp as $$
    with ended as (
        update web_sessions w set ended_at = now()
        from users u
        where u.id = w.user_id and u.issuer = of_issuer and w.ended_at is null and w.origin = 'oidc'
          and (of_subject is null or u.subject = of_subject) and (sid is null or w.provider_session = sid)
          and (of_subject is not null or sid is not null)
        returning w.id, w.tenant_id
    ), noted as (
        insert into audit_log (actor, action, subject, tenant_id, details)
        select of_issuer, 'session.end', 'ses_' || replace(id::text, '-', ''), tenant_id, '{}' from ended
        returning 1
    )
    select count(*) from noted
$$;

-- Once: of two at the same time one finds it used.
create function use_signin_link(hash bytea)
returns table (id uuid, name text, tenants text[], roles text[], everywhere text[])
language sql security definer set search_path = public, pg_temp as $$
    update signin_links l set used_at = now()
    where l.token_hash = hash and l.used_at is null and l.expires_at > now()
    returning l.id, l.name, l.tenants, l.roles, l.everywhere
$$;

-- How fast variants were, of all tenants together and only as figures over at least 20 streams. Of each variant at most the
-- latest 2,000 are looked at, by the index.

create index ix_usage_events_variant_id_started_at on usage_events (variant_id, started_at)
    where first_token_at is not null and batch_id is null;

create function measured_speeds(since timestamptz, fewest integer) returns table (
    variant_id text, requests bigint, ttft_ms_p50 double precision, ttft_ms_p95 double precision,
    tokens_per_second_p50 double precision, latest_at timestamptz)
language sql stable security definer set search_path = public, pg_temp as $$
    select v.id, count(*), percentile_cont(0.5) within group (order by e.ttft_ms),
           percentile_cont(0.95) within group (order by e.ttft_ms),
           percentile_cont(0.5) within group (order by e.tokens_per_second), max(e.ended_at)
    from model_variants v cross join lateral (
        select extract(epoch from u.first_token_at - u.started_at) * 1000 as ttft_ms,
               case when u.completion_tokens > 1 and u.ended_at > u.first_token_at
                    then (u.completion_tokens - 1) / extract(epoch from u.ended_at - u.first_token_at) end
                    as tokens_per_second,
               u.ended_at
        from usage_events u
        where u.variant_id = v.id and u.started_at >= since and u.usage_day_utc >= (since at time zone 'UTC')::date
          and u.first_token_at is not null and u.batch_id is null and u.end_reason = 'complete'
        order by u.started_at desc
        limit 2000
    ) e
    group by v.id
    having count(*) >= greatest(fewest, 20)
$$;

-- The try-it box: requests of visitors hang on a key of an internal tenant, whose text nobody knows. Revoked, the box is off.

create function try_it_key() returns table (id uuid, prefix text, tenant_id uuid, is_ended boolean)
language plpgsql security definer set search_path = public, pg_temp as $$
#variable_conflict use_column
declare
    found uuid;
begin
    -- Asked first: even an insert of nothing would tell every gateway to read all tenants again.
    if not exists (select 1 from tenants where slug = 'try-it') then
        insert into tenants (slug, name, is_internal) values ('try-it', 'Visitors of the first page', true)
        on conflict (slug) do nothing;
    end if;
    select t.id into found from tenants t where t.slug = 'try-it' and t.is_internal and t.closed_at is null;
    if found is null then
        raise exception 'the tenant try-it is not ours: give it another name' using errcode = 'unique_violation';
    end if;
    if not exists (select 1 from api_keys k where k.tenant_id = found and k.prefix = 'try_it') then
        perform pg_advisory_xact_lock(hashtext('try_it_key'));
        insert into api_keys (tenant_id, name, prefix, secret_hash, scopes)
        select found, 'try-it box', 'try_it', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
               '{inference}'
        where not exists (select 1 from api_keys k where k.tenant_id = found and k.prefix = 'try_it');
    end if;
    return query select k.id, k.prefix, k.tenant_id, k.revoked_at is not null
                 from api_keys k where k.tenant_id = found and k.prefix = 'try_it';
end $$;

-- Row-level security and grants ---------------------------------------------------------------------------------------

alter table web_sessions enable row level security, force row level security;
create policy all_tenants on web_sessions
    to studio_owner, studio_operator, studio_auditor using (true) with check (true);
alter table signin_links enable row level security, force row level security;
create policy all_tenants on signin_links
    to studio_owner, studio_operator, studio_auditor using (true) with check (true);

revoke execute on function
    start_web_session(uuid, bytea, uuid, text, text[], text[], text[], uuid, text, bytea, timestamptz, timestamptz, text),
    live_web_sessions(bytea[]), touch_web_sessions(bytea[], timestamptz), choose_web_tenant(bytea, uuid),
    end_web_session(bytea, text), end_provider_sessions(text, text, text), use_signin_link(bytea),
    measured_speeds(timestamptz, integer), try_it_key() from public;
grant execute on function
    start_web_session(uuid, bytea, uuid, text, text[], text[], text[], uuid, text, bytea, timestamptz, timestamptz, text),
    live_web_sessions(bytea[]), touch_web_sessions(bytea[], timestamptz), choose_web_tenant(bytea, uuid),
    end_web_session(bytea, text), end_provider_sessions(text, text, text), use_signin_link(bytea),
    measured_speeds(timestamptz, integer), try_it_key() to studio_gateway;

grant select (id, user_id, origin, tenants, roles, everywhere, tenant_id, created_at, idle_until, expires_at, ended_at)
    on web_sessions to studio_operator, studio_auditor;
grant update (ended_at) on web_sessions to studio_operator;
grant select (id, name, tenants, roles, everywhere, created_by, created_at, expires_at, used_at)
    on signin_links to studio_operator, studio_auditor;
grant insert on signin_links to studio_operator;
