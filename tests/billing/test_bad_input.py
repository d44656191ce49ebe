"""Bad days: processes that die half-way, tenants that leave or move. Each ends in the right bill or a clear refusal."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from assets import usage_events
from billing import approval, archive, archive_format, finalize, rated_lines, windows
from billing.windows import WindowInOtherState
from local.objects import EmbeddedObjectStore
from studio import clock
from studio.settings import REPOSITORY
from tests.billing.books import Books
from tests.local.servers import client

DAY, MONTH = date(2026, 11, 10), date(2026, 11, 1)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)

# Finalises an invoice, tells its number and is killed before it commits.
DYING_FINALISER = """
import sys, time
from uuid import UUID
from billing import finalize
from studio import clock
from studio.db.sessions import engine_for, unit_of_work
with unit_of_work(engine_for(sys.argv[1])) as session:
    print(finalize.finalize(session, UUID(sys.argv[2]), clock.now()), flush=True)
    time.sleep(600)
"""


class KilledInTheMiddle(Exception):
    """Stands for the end of the process: nothing of its transaction is committed."""


def test_a_run_that_died_after_its_file_was_put_leaves_nothing_twice(
    books: Books, objects: EmbeddedObjectStore
) -> None:
    objects.prepare()
    store = client(objects, objects.secrets.s3_secret_key)
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10)
    gateway.reports(windows.closes_at(DAY))
    key = books.seal(tenant, DAY).key
    duckdb = archive_format.connect()

    def dies_after_the_put() -> None:
        with books.as_role("worker") as session:
            assert archive.archive_seal(session, store, duckdb, key, clock.now())
            put.append(archive.archived(session, DAY)[0].object_key)
            raise KilledInTheMiddle

    put: list[str] = []
    with pytest.raises(KilledInTheMiddle):
        dies_after_the_put()
    with books.as_role("worker") as session:
        assert archive.waiting(session, DAY) == [key]
        assert archive.archive_seal(session, store, duckdb, key, clock.now())
        assert [row.object_key for row in archive.archived(session, DAY)] == put


def test_a_finaliser_is_killed_while_another_and_a_re_rate_wait_for_it(
    books: Books, request: pytest.FixtureRequest
) -> None:
    """The number that died with it goes to the next, and what is reconciled cannot be rated again."""
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=200_000_000)
    key = books.close_day(gateway, tenant, DAY)
    invoice_id = books.draft(tenant, MONTH, LATER)
    assert invoice_id is not None
    gross = books.invoice(invoice_id).gross
    with books.as_role("operator") as session:
        approved = approval.approve(session, invoice_id=invoice_id, expected_gross=gross, by="finance", now=LATER)
    dying = subprocess.Popen(
        [sys.executable, "-c", DYING_FINALISER, books.database.url("worker"), str(approved)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    request.addfinalizer(dying.kill)
    assert dying.stdout is not None
    assert dying.stdout.readline() == "XDE-2026-000001\n"

    def finalise() -> str:
        with books.as_role("worker") as session:
            return finalize.finalize(session, approved, LATER)

    def rate_again() -> None:
        with books.as_role("worker") as session:
            rated_lines.rate_seal(session, key)

    with ThreadPoolExecutor(2) as threads:
        number, rated = threads.submit(finalise), threads.submit(rate_again)
        with pytest.raises(WindowInOtherState, match="it is reconciled"):
            rated.result()
        dying.kill()
        dying.communicate()
        assert number.result() == "XDE-2026-000001"
    assert (books.invoice(invoice_id).state, books.invoice(invoice_id).gross) == ("final", gross)


def test_a_gateway_whose_clock_is_ahead_is_named_with_its_rows_and_what_its_engine_counted_is_missed(
    books: Books,
) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    ahead = gateway.uses(tenant, NOON + timedelta(days=400), prompt=7)
    gateway.uses(tenant, NOON, prompt=200_000_000)
    with books.as_role("worker") as session:
        found = {check.check_name: check for check in usage_events.evaluations(session)}["no_event_is_of_the_future"]
    assert not found.passed
    rows = found.metadata["events"]
    assert isinstance(rows, dg.TableMetadataValue)
    assert [(row.data["id"], row.data["tokens"]) for row in rows.records] == [(str(ahead), 7)]
    gateway.reports(windows.closes_at(DAY))
    books.engine_is_idle(windows.closes_at(DAY) + timedelta(hours=1))
    assert books.process(books.seal(tenant, DAY).key) == "rated"  # the engine has counted seven tokens more
    assert books.draft(tenant, MONTH, LATER) is None


def test_a_tenant_that_was_closed_pays_what_it_used_before(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=200_000_000)
    with books.database.superuser() as connection:
        connection.execute("update tenants set closed_at = %s", [NOON + timedelta(hours=1)])
    books.close_day(gateway, tenant, DAY)
    invoice_id = books.draft(tenant, MONTH, LATER)
    assert invoice_id is not None
    assert books.invoice(invoice_id).gross > 0


def test_a_tenant_that_moves_to_another_company_is_rated_by_the_terms_of_each_day(books: Books) -> None:
    """And usage between two terms is held instead of being billed by neither."""
    tenant, gateway = books.tenant(), books.gateway()
    with books.database.superuser() as connection:
        connection.execute("update tenant_billing set valid_until = %s", [DAY])
        connection.execute(
            "insert into tenant_billing"
            " (tenant_id, valid_from, legal_entity_id, currency, time_zone, tax_category, buyer)"
            " select tenant_id, %s, 'xpulink-cn', 'CNY', 'Asia/Shanghai', tax_category, buyer from tenant_billing",
            [DAY + timedelta(days=1)],
        )
    for later in (-1, 0, 1):
        gateway.uses(tenant, NOON + timedelta(days=later), prompt=1_000_000)
        gateway.reports(windows.closes_at(DAY + timedelta(days=later)))
    books.engine_is_idle(windows.closes_at(DAY + timedelta(days=1)))
    days = [DAY + timedelta(days=later) for later in (-1, 0, 1)]
    keys = [books.seal(tenant, day).key for day in days]
    assert [books.process(key) for key in keys] == ["reconciled", "held", "reconciled"]
    with books.as_role("auditor") as session:
        currencies = [[line.currency for line in rated_lines.lines_of(session, day)] for day in days]
    assert currencies == [["EUR"], [], ["CNY"]]
