"""The migrations lead up and down again, and say what the models say."""

from __future__ import annotations

import os
import subprocess
import sys

from sqlalchemy import CheckConstraint

from studio import ids
from studio.db import Base
from studio.settings import REPOSITORY
from tests.server import TestServer, migrate


def test_up_down_and_up_again(server: TestServer) -> None:
    database = server.empty_database()
    migrate(database.url("owner"))
    migrate(database.url("owner"), "base", "downgrade")
    with database.superuser() as connection:
        left = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relname not like 'alembic%'"
        ).fetchall()
        functions = connection.execute("select proname from pg_proc where pronamespace = 'public'::regnamespace")
        assert functions.fetchall() == []
    assert left == []
    migrate(database.url("owner"))


def test_models_and_migrations_agree(server: TestServer) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "alembic", "check"],
        cwd=REPOSITORY,
        env=os.environ | {"STUDIO_DATABASE_OWNER_URL": server.postgres.url("owner")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_check_constraint_of_the_models_is_in_the_database(server: TestServer) -> None:
    """Alembic compares tables and columns only, and leaves a column's own checks out of what it generates."""
    declared = {
        f"ck_{table.name}_{str(constraint.name).removeprefix(f'ck_{table.name}_')}"
        for table in Base.metadata.tables.values()
        for constraint in (*table.constraints, *(own for column in table.columns for own in column.constraints))
        if isinstance(constraint, CheckConstraint)
    }
    with server.database().superuser() as connection:
        rows = connection.execute("select conname from pg_constraint where contype = 'c' and conname like 'ck_%'")
        present = {name for (name,) in rows.fetchall()}
    assert declared <= present, sorted(declared - present)


def test_a_keys_requests_per_second_become_a_limit_and_come_back(server: TestServer) -> None:
    database = server.empty_database()
    migrate(database.url("owner"), "0003")
    with database.superuser() as connection:
        connection.execute("insert into tenants (slug, name) values ('acme', 'Acme')")
        connection.execute(
            "insert into api_keys (tenant_id, name, prefix, secret_hash, scopes, requests_per_second)"
            " select id, 'slow', 'xpu_1', 'one'::bytea, '{inference}'::text[], 5 from tenants union all"
            " select id, 'free', 'xpu_2', 'two', '{inference}', null from tenants"
        )
    migrate(database.url("owner"), "0004")
    with database.superuser() as connection:
        limits = "select k.name, l.requests_per_second from limits l join api_keys k on k.id = l.api_key_id"
        assert connection.execute(limits).fetchall() == [("slow", 5)]
    migrate(database.url("owner"), "0003", "downgrade")
    with database.superuser() as connection:
        keys = connection.execute("select name, requests_per_second from api_keys order by name").fetchall()
    assert keys == [("free", None), ("slow", 5)]


def test_a_keys_credit_becomes_a_budget_with_what_it_has_spent(server: TestServer) -> None:
    """What sources that have ended told of is spent; what a source that may tell more told of is held by it."""
    database = server.empty_database()
    migrate(database.url("owner"), "0004")
    ended, living = ids.uuid7(), ids.uuid7()
    with database.superuser() as connection:
        connection.execute("""
            insert into legal_entities (id, name, country, currency, time_zone, invoice_prefix, details)
                values ('us', 'Us', 'DE', 'EUR', 'Europe/Berlin', 'U', '{}');
            insert into tenants (slug, name) values ('acme', 'Acme');
            insert into tenant_billing
                (tenant_id, valid_from, legal_entity_id, currency, time_zone, tax_category, buyer)
                select id, '2026-01-01', 'us', 'EUR', 'Europe/Berlin', 'S', '{}' from tenants;
            insert into api_keys (tenant_id, name, prefix, secret_hash, scopes, credit, created_at)
                select id, 'purse', 'xpu_1', 'one'::bytea, '{inference}'::text[], 5, now() - interval '1 hour'
                from tenants;
            insert into models (id, name, publisher, task, vision, licence, licence_url, context_tokens)
                values ('m', 'M', 'us', 'chat', false, '', '', 100);
            insert into model_variants
                (id, model_id, tier, context_tokens, weights_id, weights_bytes, gpu_count, max_num_seqs,
                 suggested_replicas, engine_flags, engine_env, deployed, site_replicas)
                values ('m', 'm', 'base', 100, 'm', 0, 0, 1, 1, '[]', '{}', true, 0);
            insert into prices (currency, variant_id, unit, per_million, valid_from)
                select 'EUR', 'm', unit, 1000000, '2026-01-01'
                from unnest(array['prompt', 'cached_prompt', 'completion']) unit;
            insert into replicas (variant_id, kind, state, url, engine_model)
                values ('m', 'attached', 'ready', '', 'm');
        """)
        for source, closed, tokens in ((ended, True, 2), (living, False, 1)):
            connection.execute(
                "insert into usage_sources (id, name, opened_at, last_seq, pending, heartbeat_at, closed_at)"
                " values (%s, 'gateway', now(), 1, 0, now(), case when %s then now() end)",
                (source, closed),
            )
            event = ids.uuid7()
            connection.execute(
                "insert into usage_events (usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id,"
                " endpoint, model_id, variant_id, tier_requested, tier_served, replica_id, started_at, ended_at,"
                " prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason,"
                " usage_origin)"
                " select %s, %s, %s, 1, k.tenant_id, k.id, 'req', '/v1/chat/completions', 'm', 'm', 'base', 'base',"
                " r.id, now(), now(), %s, 0, 0, 0, 200, 'complete', 'engine' from api_keys k, replicas r",
                (ids.day_utc_of(event), event, source, tokens),
            )
    migrate(database.url("owner"))
    with database.superuser() as connection:
        budgets = connection.execute("select kind, currency, amount::int from budgets").fetchall()
        spent = connection.execute("select spent::int from budget_accounts").fetchall()
        held = connection.execute("select source_id, amount::int from budget_draws").fetchall()
        connection.execute("update usage_sources set closed_at = now()")
        connection.execute("select settle_draws(%s)", (living,))
        settled = connection.execute("select spent::int from budget_accounts").fetchall()
    assert (budgets, spent, held, settled) == ([("prepaid", "EUR", 5)], [(2,)], [(living, 1)], [(3,)])
