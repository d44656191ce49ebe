"""A realistic day of usage in a database of its own: many tenants of which a few use most, all variants, five zones,
batches, caches, and prices that change in the afternoon. The same rows for the same numbers.

Ten million rows are there in a few minutes: they are made in the server, and what `accept_usage` and the indexes keep
of each row is made of all of them together, which comes to the same. Every check of the table holds for every row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine

from studio import clock
from studio.catalog.sync import sync_catalog
from studio.db.sessions import engine_for, unit_of_work
from studio.settings import REPOSITORY
from tests.server import TestDatabase, running_server

GATEWAYS = 4


@dataclass(frozen=True)
class UsageDay:
    """Where it lies."""

    database: TestDatabase
    worker: Engine
    day: date
    span: tuple[datetime, datetime]

    @property
    def closed_at(self) -> datetime:
        """When everything had arrived."""
        return self.span[1] + timedelta(hours=1)


@contextmanager
def usage_day(folder: Path, events: int, tenants: int, days: int = 1) -> Iterator[UsageDay]:
    """So many events, spread over `days` Berlin days that end three days ago; the last of them is `day`."""
    folder.chmod(0o755)  # PostgreSQL is not run as root
    day = clock.now().astimezone(clock.BERLIN).date() - timedelta(days=3)
    first = clock.day_window(day - timedelta(days=days - 1), clock.BERLIN)[0]
    end = clock.day_window(day, clock.BERLIN)[1]
    with running_server(folder) as server:
        database = server.database()
        worker = engine_for(database.url("worker"))
        with unit_of_work(worker) as session:
            sync_catalog(session, REPOSITORY / "catalog", "local")
        with database.superuser() as connection:
            values = {"events": events, "tenants": tenants, "start": first, "end": end, "gateways": GATEWAYS}
            for statement in _TENANTS, _PRICES, _TARGETS, _SOURCES, _PARTITIONS, _DRAWN_FROM:
                psycopg.ClientCursor(connection).execute(statement, values)  # many statements at once
            with _indexed_afterwards(connection):
                psycopg.ClientCursor(connection).execute(_EVENTS, values)
            for statement in _NUMBERED, _ARRIVED:
                connection.execute(statement)
            connection.execute("vacuum analyze")
        yield UsageDay(database, worker, day, (first, end))
        worker.dispose()


@contextmanager
def _indexed_afterwards(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """The indexes of `usage_events` and its key are made again, as they were, of all rows at once."""
    key = connection.execute(_KEY).fetchall()
    indexes = connection.execute(_INDEXES).fetchall()
    for name, _ in key:
        connection.execute(f"alter table usage_events drop constraint {name}")
    for name, _ in indexes:
        connection.execute(f"drop index {name}")
    yield
    connection.execute("set maintenance_work_mem = '512MB'")
    for name, definition in key:
        connection.execute(f"alter table usage_events add constraint {name} {definition}")
    for _, definition in indexes:
        connection.execute(definition.replace(" ON ONLY ", " ON "))


_KEY = """
    select conname, pg_get_constraintdef(oid) from pg_constraint
    where conrelid = 'usage_events'::regclass and contype = 'p'
"""
_INDEXES = """
    select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
    where indrelid = 'usage_events'::regclass and not indisprimary
"""
_TENANTS = """
    with made as (
        insert into tenants (slug, name) select 'tenant-' || g, 'Tenant ' || g from generate_series(1, %(tenants)s) g
        returning id, substr(slug, 8)::int as rank)
    insert into tenant_billing (tenant_id, valid_from, legal_entity_id, currency, time_zone, tax_category, buyer)
    select id, '2020-01-01', 'xpulink-de', 'EUR',
           (array['Europe/Berlin', 'Europe/London', 'Asia/Kathmandu', 'America/New_York', 'Asia/Shanghai'])
               [rank %% 5 + 1],
           'S', '{}'
    from made
"""
# At half past two in the afternoon every third variant becomes dearer. Prices of the catalog begin when they like.
_PRICES = """
    create temp table old as select * from prices;
    alter table prices disable trigger append_only;
    delete from prices;
    alter table prices enable trigger append_only;
    insert into prices (currency, variant_id, unit, per_million, valid_from, valid_until)
    select currency, variant_id, unit, per_million, '2020-01-01',
           case when abs(hashtext(variant_id)) %% 3 = 0 then cast(%(end)s as timestamptz) - interval '9.5 hours' end
    from old
    union all
    select currency, variant_id, unit, per_million + 0.012347, cast(%(end)s as timestamptz) - interval '9.5 hours', null
    from old where abs(hashtext(variant_id)) %% 3 = 0
"""
_SOURCES = """
    insert into usage_sources (id, name, opened_at, closed_at, last_seq, pending, heartbeat_at)
    select ('00000000-0000-7000-8000-00000000000' || g)::uuid, 'gateway-' || g, %(start)s, %(end)s, 0, 0, %(end)s
    from generate_series(0, %(gateways)s - 1) g
"""
_PARTITIONS = """
    select ensure_usage_partition(day::date)
    from generate_series(cast(%(start)s as timestamptz), cast(%(end)s as timestamptz), interval '1 day') day
"""
# Base and fast have one, so of each request it is asked whether it was missed.
_TARGETS = "update model_variants set first_token_target_ms = 2000 where tier = 'fast'"
_DRAWN_FROM = """
    create temp table who as
        select row_number() over (order by slug) - 1 as rank, id from tenants where not is_internal;
    create temp table what as select row_number() over (order by v.id) - 1 as no, v.id, v.model_id, v.tier, m.task
        from model_variants v join models m on m.id = v.model_id
        where (select count(*) from prices p where p.variant_id = v.id and p.currency = 'EUR' and p.unit in (
                   'reused', case m.task when 'embedding' then 'batch_embedding' else 'batch_completion' end)
               and p.valid_until is null) = 2;
    analyze who, what;
"""
# Drawn before they are joined, so that each draw is one of its event. A tenant has a batch each hour.
_EVENTS = """
    select setseed(0.19);
    insert into usage_events (
        usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id, tag, endpoint, model_id,
        variant_id, tier_requested, tier_served, replica_id, started_at, admitted_at, first_token_at, ended_at,
        prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason, usage_origin,
        batch_id, batch_line, reused_prompt_tokens, reused_completion_tokens)
    select (d.at at time zone 'UTC')::date, uuidv7(d.at - now()),
           ('00000000-0000-7000-8000-00000000000' || d.g %% %(gateways)s)::uuid, (d.g - 1) / %(gateways)s + 1, who.id,
           who.id, 'req_' || d.g, null, '/v1/chat/completions', what.model_id, what.id, what.tier, what.tier,
           '00000000-0000-7000-8000-000000000099', d.at, d.at, d.at + d.waited * interval '2 seconds',
           d.at + interval '2 seconds', d.prompt,
           case when d.spared < 0.5 and what.task <> 'embedding' then d.prompt / 2 else 0 end,
           case when what.task = 'embedding' then 0 else d.completion end, 0, 200, 'complete', 'engine',
           case when d.batched < 0.1 and d.spared < 0.9
                then ('00000000-0000-7000-8000-' || lpad(to_hex(d.rank), 8, '0')
                      || lpad(extract(hour from d.at)::text, 4, '0'))::uuid end,
           case when d.batched < 0.1 and d.spared < 0.9 then d.g end,
           case when d.spared > 0.95 then d.prompt else 0 end,
           case when d.spared > 0.95 and what.task <> 'embedding' then d.completion else 0 end
    from (
        select g, floor(%(tenants)s * power(random(), 4))::int as rank,
               floor((select count(*) from what) * power(random(), 2))::int as no, random() as spared,
               random() as batched, random() as waited, 1 + floor(power(random(), 3) * 8000)::bigint as prompt,
               floor(power(random(), 2) * 1200)::bigint as completion,
               cast(%(start)s as timestamptz)
                 + (cast(%(end)s as timestamptz) - cast(%(start)s as timestamptz)) * ((g - 1)::float8 / %(events)s)
                 as at
        from generate_series(1, %(events)s) g) d
    join who using (rank) join what using (no);
"""
# Closed: nothing more can come.
_NUMBERED = """
    update usage_sources s set last_seq = e.seq
    from (select source_id, max(source_seq) as seq from usage_events group by 1) e where e.source_id = s.id
"""
# As `accept_usage` counts them.
_ARRIVED = """
    insert into usage_arrivals (window_day, source_id, events)
    select (started_at at time zone 'Europe/Berlin')::date, source_id, count(*) from usage_events group by 1, 2
"""
