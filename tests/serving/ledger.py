"""What the database knows of usage, for comparison with what clients and engines saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

import psycopg
from psycopg import sql

from local.postgres import SUPERUSER
from tests.server import TestDatabase


@dataclass(frozen=True, slots=True)
class Event:
    """The columns of `usage_events` that the tests compare."""

    request_id: str
    endpoint: str
    variant_id: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    end_reason: str
    engine_prompt_tokens: int
    reused_prompt_tokens: int
    reused_completion_tokens: int
    has_engine: bool


def events(database: TestDatabase, key_id: UUID | None = None) -> list[Event]:
    """All of them, or those of a key, by source and number."""
    query = """
        select request_id, endpoint, variant_id, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens,
               end_reason, coalesce(engine_prompt_tokens, prompt_tokens), reused_prompt_tokens,
               reused_completion_tokens, replica_id is not null
        from usage_events where %(key)s::uuid is null or api_key_id = %(key)s order by source_id, source_seq
    """
    with database.superuser() as connection:
        return [Event(*row) for row in connection.execute(query, {"key": key_id})]


def beginnings(database: TestDatabase) -> dict[str, tuple[date, datetime]]:
    """The partition's day and the instant of the start of each event, by request id."""
    with database.superuser() as connection:
        rows = connection.execute("select request_id, usage_day_utc, started_at at time zone 'UTC' from usage_events")
        return {id: (day, started_at.replace(tzinfo=UTC)) for id, day, started_at in rows}


def numbers_have_no_gap(database: TestDatabase) -> bool:
    """Whether the events of each source are numbered 1, 2, 3, ... up to its `last_seq`, and nothing was quarantined."""
    query = """
        select (select count(*) from quarantine) = 0 and not exists (
            select 1 from usage_sources s
            left join lateral (select count(*) as events, count(distinct e.source_seq) as numbers,
                                      coalesce(max(e.source_seq), 0) as last
                               from usage_events e where e.source_id = s.id) e on true
            where e.events <> s.last_seq or e.numbers <> s.last_seq or e.last <> s.last_seq)
    """
    with database.superuser() as connection:
        row = connection.execute(query).fetchone()
        return row is not None and bool(row[0])


def open_sources(database: TestDatabase) -> int:
    """Sources that may still send something."""
    with database.superuser() as connection:
        row = connection.execute("select count(*) from usage_sources where closed_at is null").fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def outage(database: TestDatabase) -> Iterator[None]:
    """The database ends all connections and takes no new ones."""
    name = sql.Identifier(database.name)
    with psycopg.connect(
        host="127.0.0.1",
        port=database.server.port,
        user=SUPERUSER,
        password=database.server.secrets.database_superuser,
        dbname="postgres",
        autocommit=True,
    ) as outside:
        outside.execute(sql.SQL("alter database {} allow_connections false").format(name))
        outside.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database.name,))
        yield
        outside.execute(sql.SQL("alter database {} allow_connections true").format(name))
