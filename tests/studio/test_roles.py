"""What each database role may not do, and that a tenant's session sees one tenant or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from studio.db.sessions import engine_for, tenant_scope, unit_of_work
from studio.db.tenancy import ApiKey, Tenant, TenantBilling
from studio.settings import DatabaseRole
from studio.tenants import CreatedKey, create_key
from tests.conftest import new_tenant
from tests.server import TestDatabase, TestServer

FORBIDDEN: list[tuple[DatabaseRole, str]] = [
    ("gateway", "select secret_hash from api_keys"),
    ("gateway", "insert into usage_events select * from usage_events"),
    ("gateway", "update api_keys set revoked_at = now()"),
    ("gateway", "select * from usage_staging"),
    ("gateway", "select * from audit_log"),
    ("gateway", "select * from usage_archives"),
    ("gateway", "select prove_source(uuidv7(), 1)"),
    ("operator", "insert into usage_archives select * from usage_archives"),
    ("operator", "update quarantine set payload = '{}'"),
    ("worker", "delete from usage_archives"),
    ("worker", "update usage_arrivals set events = 0"),
    ("worker", "insert into usage_arrivals select * from usage_arrivals"),
    ("operator", "update usage_arrivals set sealed_events = events"),
    ("gateway", "select * from usage_arrivals"),
    ("shipper", "select * from usage_arrivals"),
    ("worker", "select drop_archived_usage(current_date)"),
    ("worker", "update usage_sums set requests = 0"),
    ("gateway", "insert into usage_sums select * from usage_sums"),
    ("gateway", "select * from usage_summed_days"),
    ("shipper", "select * from usage_sums"),
    ("shipper", "select * from summed_days(current_date, current_date)"),
    ("worker", "update storage_days set kilobyte_days = 0"),
    ("gateway", "insert into storage_days select * from storage_days"),
    ("worker", "delete from rounding_modes"),
    ("operator", "insert into rounding_modes select * from rounding_modes"),
    ("gateway", "select accept_usage(uuidv7())"),
    ("gateway", "select * from users"),
    ("gateway", "select * from memberships"),
    ("gateway", "insert into memberships select * from memberships"),
    ("gateway", "select id from web_sessions"),
    ("gateway", "update web_sessions set ended_at = null"),
    ("gateway", "insert into signin_links select * from signin_links"),
    ("operator", "select token_hash from web_sessions"),
    ("operator", "update web_sessions set expires_at = now()"),
    ("operator", "select * from live_web_sessions('{}')"),
    ("operator", "select token_hash from signin_links"),
    ("operator", "update signin_links set used_at = null"),
    ("operator", "select * from use_signin_link('')"),
    ("worker", "select id from web_sessions"),
    ("auditor", "select id_token from web_sessions"),
    ("shipper", "select * from try_it_key()"),
    ("gateway", "insert into api_keys (tenant_id) values (uuidv7())"),
    ("gateway", "insert into audit_log select * from audit_log"),
    ("gateway", "update api_key_uses set last_used_at = now()"),
    ("gateway", "select audit_own('x', 'x', 'x', '{}')"),  # without a tenant
    (
        "gateway",
        "select create_own_key(uuidv7(), 'x', 'x', 'x', '{admin}', null, null, null, 'x', null, false)",
    ),
    ("gateway", "insert into budget_draws select * from budget_draws"),
    ("gateway", "update budget_accounts set spent = 0"),
    ("gateway", "update budgets set amount = 1000000"),
    ("gateway", "select settle_draws(uuidv7())"),
    ("gateway", "select * from corrections"),
    ("gateway", "insert into document_snapshots select * from document_snapshots"),
    ("gateway", "select * from document_verdicts"),
    ("gateway", "select * from vat_id_checks"),
    ("shipper", "select * from document_snapshots"),
    ("operator", "insert into document_verdicts select * from document_verdicts"),
    ("operator", "insert into fx_rates select * from fx_rates"),
    ("worker", "update document_snapshots set content = ''"),
    ("worker", "delete from document_verdicts"),
    ("worker", "update fx_rates set rate = 1"),
    ("worker", "update tax_treatments set category = 'S'"),
    ("worker", "delete from vat_id_checks"),
    ("gateway", "select said from engine_pods"),
    ("gateway", "select said from cluster_contact"),
    ("gateway", "delete from engine_pods"),
    ("worker", "delete from engine_starts"),
    ("operator", "update cluster_contact set away_since = null"),
    ("shipper", "select variant_id from engine_pods"),
    ("gateway", "insert into prices select * from prices"),
    ("gateway", "insert into price_tiers select * from price_tiers"),
    ("gateway", "insert into commitments select * from commitments"),
    ("gateway", "insert into signing_keys (id, public_key) values ('x', 'x')"),
    ("worker", "select publish_receipt_key('x', 'x')"),
    ("worker", "insert into commitments select * from commitments"),
    ("shipper", "select * from own_prices()"),
    ("operator", "update commitments set amount = 1"),
    ("operator", "delete from price_tiers"),
    ("operator", "insert into quotes select * from quotes"),
    ("gateway", "select * from reviews"),
    ("gateway", "update webhook_messages set delivered_at = now()"),
    ("gateway", "insert into alerts select * from alerts"),
    ("gateway", "select * from mails"),
    ("gateway", "select void_draft(uuidv7())"),
    ("operator", "select secret from webhooks"),
    ("operator", "update reviews set reviewed_by = 'x'"),
    ("operator", "update approvals set reviewed_by = 'x'"),
    ("operator", "delete from invoice_holds"),
    ("operator", "insert into mails select * from mails"),
    ("worker", "insert into reviews select * from reviews"),
    ("worker", "update invoice_holds set released_by = 'x'"),
    ("worker", "insert into credit_requests select * from credit_requests"),
    ("worker", "update mails set recipient = 'x'"),
    ("worker", "update webhooks set url = 'x'"),
    ("worker", "select void_draft(uuidv7())"),
    ("auditor", "select secret from webhooks"),
    ("operator", "update corrections set gross = 0"),
    ("operator", "update corrections set state = 'final'"),
    ("operator", "delete from correction_lines"),
    ("worker", "insert into corrections select * from corrections"),
    ("worker", "update corrections set gross = 0"),
    ("worker", "insert into correction_lines select * from correction_lines"),
    ("gateway", "select * from margin_daily"),
    ("gateway", "select spend_days('{}')"),
    ("gateway", "select void_correction(uuidv7())"),
    ("worker", "insert into card_reservations (tenant_id, cards) values (uuidv7(), 1)"),
    ("operator", "update card_reservations set cards = 1"),
    ("operator", "insert into gpu_days (tenant_id) values (uuidv7())"),
    ("gateway", "select * from cost_rates"),
    ("shipper", "select * from card_energy"),
    ("node_agent", "insert into card_energy select * from card_energy"),
    ("operator", "update slo_figures set value = 1"),
    ("operator", "delete from cost_rates"),
    ("auditor", "update margin_daily set revenue = 0"),
    ("auditor", "update dagster_ticks set ticked_at = now()"),
    ("gateway", "select * from ledger_entries"),
    ("gateway", "select description from ledger_transactions"),
    ("gateway", "select reason from credit_lots"),
    ("gateway", "select ordered_by from corrections"),
    ("gateway", "select * from payments"),
    ("gateway", "select reason from payment_matches"),
    ("gateway", "select * from write_offs"),
    ("gateway", "select * from dunning_notices"),
    ("worker", "create temporary table aside (n integer)"),
    ("operator", "update payments set amount = 1"),
    ("operator", "delete from payment_matches"),
    ("operator", "update write_off_decisions set is_approved = true"),
    ("operator", "insert into dunning_notices select * from dunning_notices"),
    ("worker", "insert into write_offs select * from write_offs"),
    ("worker", "insert into write_off_decisions select * from write_off_decisions"),
    ("worker", "update payments set entry_key = ''"),
    ("shipper", "select * from payments"),
    ("auditor", "insert into payment_matches select * from payment_matches"),
    ("gateway", "insert into credit_lots select * from credit_lots"),
    ("shipper", "select * from ledger_transactions"),
    ("operator", "update credit_lots set amount = 1000"),
    ("operator", "insert into ledger_days select * from ledger_days"),
    ("operator", "delete from ledger_transactions"),
    ("worker", "update ledger_entries set amount = 1"),
    ("worker", "update ledger_days set sha256 = ''"),
    ("worker", "delete from ledger_days"),
    ("worker", "update ledger_accounts set kind = 'bank'"),
    ("auditor", "insert into ledger_accounts select * from ledger_accounts"),
    ("operator", "update budget_accounts set spent = 0"),
    ("operator", "select * from idempotent_answers"),
    ("worker", "select * from idempotent_answers"),
    ("worker", "update budgets set amount = 1000000"),
    ("auditor", "select * from idempotent_answers"),
    ("shipper", "select draw_budget(uuidv7(), current_date, uuidv7(), 1)"),
    ("gateway", "delete from uploads"),
    ("gateway", "update uploads set size_bytes = 1"),
    ("gateway", "update uploads set parts_removed_at = now()"),
    ("gateway", "update upload_parts set size_bytes = 1"),
    ("shipper", "select * from uploads"),
    ("gateway", "select * from limits"),
    ("gateway", "update limits set requests_per_second = 1"),
    ("shipper", "select * from limit_snapshot()"),
    ("gateway", "update responses set expires_at = now()"),
    ("gateway", "update comparisons set models = '{}'"),
    ("operator", "select id from comparisons"),
    ("auditor", "delete from comparisons"),
    ("operator", "select id from responses"),
    ("worker", "select content from responses"),
    ("worker", "insert into responses select * from responses"),
    ("worker", "select beat_responses('{}')"),
    ("auditor", "select content from responses"),
    ("auditor", "delete from responses"),
    ("gateway", "delete from engine_keys"),
    ("gateway", "select id from usage_counts"),
    ("gateway", "update usage_counts set counted_prompt_tokens = 0"),
    ("operator", "insert into usage_counts select * from usage_counts"),
    ("worker", "delete from usage_counts"),
    ("shipper", "select * from usage_counts"),
    ("shipper", "select * from usage_events"),
    ("shipper", "insert into usage_events select * from usage_events"),
    ("shipper", "select * from tenants"),
    ("shipper", "select * from usage_staging"),
    ("shipper", "select * from api_key_snapshot()"),
    ("operator", "select secret_hash from api_keys"),
    ("operator", "select sealed from engine_keys"),
    ("operator", "update engine_keys set sealed = null"),
    ("worker", "select * from engine_keys"),
    ("node_agent", "select * from engine_keys"),
    ("auditor", "select * from engine_keys"),
    ("operator", "update prices set per_million = 0"),
    ("operator", "update invoices set gross = 0"),
    ("operator", "update invoiced_lines set freed_by = null"),
    ("operator", "update tenant_billing set buyer = '{}'"),
    ("operator", "update batches set lines_total = 0"),
    ("operator", "update fine_tuning_jobs set state = 'failed'"),
    ("operator", "insert into usage_events select * from usage_events"),
    ("operator", "update approvals set executed_at = null"),
    ("operator", "update memberships set role = 'ops'"),
    ("operator", "select record_sign_in('x', 'x', null, null, null, '[]')"),
    ("shipper", "select * from granted_memberships()"),
    ("worker", "select * from users"),
    ("worker", "insert into memberships select * from memberships"),
    ("worker", "select secret_hash from api_keys"),
    ("worker", "select open_canary('acme', uuidv7(), 'xpu_x', 'x')"),
    ("worker", "update isolation_certificates set result = 'passed'"),
    ("worker", "delete from signing_keys"),
    ("gateway", "insert into isolation_certificates select * from isolation_certificates"),
    ("gateway", "select open_canary('isolation-canary-a', uuidv7(), 'xpu_x', 'x')"),
    ("operator", "select close_canaries()"),
    ("gateway", "select open_billing_canary(uuidv7(), 'xpu_x', 'x')"),
    ("operator", "select close_billing_canary()"),
    ("shipper", "select * from isolation_certificates"),
    ("worker", "insert into api_keys select * from api_keys"),
    ("worker", "insert into approvals select * from approvals"),
    ("worker", "insert into usage_events select * from usage_events"),
    ("worker", "insert into limits select * from limits"),
    ("worker", "delete from usage_events"),
    ("worker", "update rated_lines set amount = 0"),
    ("worker", "delete from rated_lines"),
    ("worker", "update prices set per_million = 0"),
    ("worker", "create table mine (id int)"),
    ("worker", "alter table invoices disable trigger all"),
    ("worker", "set session_replication_role = replica"),
    ("worker", "update uploads set state = 'pending'"),
    ("worker", "insert into upload_parts select * from upload_parts"),
    ("operator", "update uploads set state = 'cancelled'"),
    ("node_agent", "select * from uploads"),
    ("node_agent", "select * from tenants"),
    ("node_agent", "select * from usage_events"),
    ("node_agent", "update desired_replicas set replicas = 9"),
    ("auditor", "select secret_hash from api_keys"),
    ("auditor", "delete from limits"),
    ("auditor", "delete from audit_log"),
    ("auditor", "delete from upload_parts"),
    ("auditor", "update tenants set name = 'x'"),
    ("auditor", "create table mine (id int)"),
]


@pytest.fixture(scope="module")
def untouched(server: TestServer) -> TestDatabase:
    """One database for all refusals: none of them changes it."""
    return server.database()


@pytest.mark.parametrize(("role", "statement"), FORBIDDEN)
def test_a_role_may_not(untouched: TestDatabase, role: DatabaseRole, statement: str) -> None:
    engine = engine_for(untouched.url(role))
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner|no tenant|no administrators"),
        unit_of_work(engine) as session,
    ):
        session.execute(text(statement))
    engine.dispose()


def test_no_role_of_ours_owns_a_table_or_passes_row_level_security(database: TestDatabase) -> None:
    with database.superuser() as connection:
        owners = connection.execute("select distinct tableowner from pg_tables where schemaname = 'public'").fetchall()
        passing = connection.execute(
            "select rolname from pg_roles where rolname like 'studio_%' and (rolbypassrls or rolsuper or rolcreaterole)"
        ).fetchall()
    assert owners == [("studio_owner",)]
    assert passing == []


@pytest.fixture
def gateway(database: TestDatabase) -> Iterator[Engine]:
    engine = engine_for(database.url("gateway"))
    yield engine
    engine.dispose()


def test_a_tenant_cannot_read_another_tenants_rows(
    gateway: Engine, operator: Engine, tenant: UUID, api_key: CreatedKey
) -> None:
    other = new_tenant(operator, "globex")
    with unit_of_work(operator) as session:
        create_key(session, other, "theirs", "tests")
    with tenant_scope(gateway, tenant) as session:
        assert session.scalars(select(Tenant.slug)).all() == ["acme"]
        assert session.scalars(select(ApiKey.prefix)).all() == [api_key.prefix]
        assert session.scalars(select(TenantBilling.tenant_id)).all() == [tenant]
        assert session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.tenant_id == other)) == 0


def test_without_a_tenant_the_gateway_sees_nothing(gateway: Engine, tenant: UUID, api_key: CreatedKey) -> None:
    with unit_of_work(gateway) as session:
        assert session.scalars(select(Tenant.slug)).all() == []
        assert session.scalars(select(ApiKey.prefix)).all() == []


def test_the_tenant_of_one_transaction_does_not_leak_into_the_next(gateway: Engine, tenant: UUID) -> None:
    with tenant_scope(gateway, tenant) as session:
        assert session.scalars(select(Tenant.slug)).all() == ["acme"]
    with unit_of_work(gateway) as session:
        assert session.scalars(select(Tenant.slug)).all() == []


def test_every_table_with_a_tenant_is_under_forced_row_level_security(database: TestDatabase) -> None:
    """Tables that the gateway may read; a new one must not be forgotten."""
    with database.superuser() as connection:
        unprotected = connection.execute("""
            select distinct c.relname from pg_class c
            join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
            where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
              and has_any_column_privilege('studio_gateway', c.oid, 'select')
              and not (c.relrowsecurity and c.relforcerowsecurity)
        """).fetchall()
    assert unprotected == []


def test_a_partition_cannot_be_read_past_its_parents_policies(database: TestDatabase) -> None:
    with (
        psycopg.connect(database.url("gateway").replace("+psycopg", "")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select * from usage_events_default")


def test_a_part_cannot_be_put_into_another_tenants_upload(gateway: Engine, operator: Engine, tenant: UUID) -> None:
    other = new_tenant(operator, "globex")
    announce = text(
        "insert into uploads (tenant_id, filename, purpose, size_bytes, expires_at)"
        " values (:tenant, 'a', 'batch', 1, now()) returning id"
    )
    with tenant_scope(gateway, other) as session:
        upload_id: UUID = session.execute(announce, {"tenant": other}).scalar_one()
    add = text("insert into upload_parts (tenant_id, upload_id, size_bytes) values (:tenant, :upload, 1)")
    with pytest.raises(IntegrityError), tenant_scope(gateway, tenant) as session:
        session.execute(add, {"tenant": tenant, "upload": upload_id})
    with pytest.raises(ProgrammingError, match="row-level security"), tenant_scope(gateway, tenant) as session:
        session.execute(add, {"tenant": other, "upload": upload_id})
    with tenant_scope(gateway, tenant) as session:
        assert session.execute(text("select * from uploads")).all() == []
