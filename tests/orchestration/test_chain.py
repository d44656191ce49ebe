"""From events to a PDF, through the sensors and jobs that do it in production."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from sqlalchemy import select

from billing import approval, archive, invoice_requests, quarantine, usage_sums, windows
from studio import clock, tenants
from studio.db.fleet import DesiredReplicas
from studio.db.invoices import InvoiceDocument
from studio.db.usage import UsageSum
from studio.money import Currency
from studio.objects import Bucket, ObjectStore
from tests.billing.books import BUYER, Books
from tests.orchestration.location import Location


def test_from_events_to_a_pdf(books: Books, location: Location, objects: ObjectStore) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    start = clock.now() - timedelta(minutes=1)
    today = start.astimezone(clock.BERLIN).date()
    gateway.uses(tenant, start, prompt=200_000_000, completion=50_000_000)
    asked = clock.now()
    gateway.reports(asked + timedelta(seconds=1))
    books.engine_is_idle(asked)
    with books.as_role("operator") as session:
        windows.seal(
            session, window_day=today, tenant_id=tenant, by="ops", reason="demo", cutoff=asked, now=clock.now()
        )
    (process,) = location.asks("sealed_windows")
    assert location.carry_out(process, "process_day").success
    assert location.asks("sealed_windows") == []
    with books.as_role("auditor") as session:
        assert usage_sums.summed_days(session, today, today) == {today}
        assert session.scalars(select(UsageSum.prompt_tokens)).all() == [200_000_000]

    with books.as_role("operator") as session:
        invoice_requests.request_invoice(
            session, tenant_id=tenant, month=clock.month_start(today), by="ops", reason="demo", now=clock.now()
        )
    (request,) = location.asks("invoice_requests")
    assert location.carry_out(request, "draft_invoices").success
    assert location.asks("invoice_requests") == []

    invoice = books.only_invoice()
    with location.tick("invoices_waiting") as said:
        (listed,) = said.asset_events
    assert listed.metadata["waits_for_approval"].value == 1
    with books.as_role("operator") as session:
        approval.approve(
            session, invoice_id=invoice.id, expected_gross=invoice.gross, by="key:xpu_finance", now=clock.now()
        )
    (approved,) = location.asks("approvals")
    assert location.carry_out(approved, "finalize_invoice").success
    assert location.asks("approvals") == []

    final = books.only_invoice()
    assert (final.state, final.gross) == ("final", invoice.gross)
    with books.as_role("auditor") as session:
        documents = {row.kind: row for row in session.scalars(select(InvoiceDocument))}
    assert sorted(documents) == ["cii", "csv", "json", "pdf", "ubl"]
    for document in documents.values():
        body = objects.get(Bucket.INVOICES, document.object_key)
        assert body is not None
        assert hashlib.sha256(body).hexdigest() == document.sha256
        assert document.object_key.startswith(f"tnt_{tenant.hex}/{final.number}/{document.sha256}")


def test_what_breaks_a_rule_is_red_and_named(books: Books, location: Location, objects: ObjectStore) -> None:
    """A VAT id lacks its country, which EN 16931 wants: nothing is published, and a check says which rule and where."""
    buyer = {**BUYER, "vat_id": "111111111"}
    billing = tenants.Billing("xpulink-de", Currency.EUR, "Europe/Berlin", buyer, date(2026, 1, 1))
    with books.as_role("operator") as session:
        tenant = tenants.create_tenant(session, "vatless", "Kunde AG", billing, "test")
    day = datetime(2026, 11, 10, 11, tzinfo=UTC)
    gateway = books.gateway()
    gateway.uses(tenant, day, prompt=200_000_000)
    books.close_day(gateway, tenant, day.date())
    invoice_id = books.draft(tenant, date(2026, 11, 1), clock.now())
    assert invoice_id is not None
    with books.as_role("operator") as session:
        gross = books.invoice(invoice_id).gross
        approval.approve(session, invoice_id=invoice_id, expected_gross=gross, by="anna", now=clock.now())
    (approved,) = location.asks("approvals")
    result = location.carry_out(approved, "finalize_invoice")
    verdicts = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert verdicts["documents_keep_our_rules"].passed
    assert not verdicts["documents_pass_official_rules"].passed
    findings = str(verdicts["documents_pass_official_rules"].metadata["findings"].value)
    assert "BR-CO-09" in findings
    assert str(books.invoice(invoice_id).number) in findings
    with books.as_role("auditor") as session:
        assert session.scalars(select(InvoiceDocument)).all() == []


def test_a_day_without_a_seal_is_refused_with_one_sentence(books: Books, location: Location) -> None:
    with pytest.raises(dg.Failure, match=r"^The day 2026-11-10 is not sealed"):
        location.run("process_day", "2026-11-10")


def test_a_held_tenant_does_not_hold_its_neighbour(books: Books, location: Location) -> None:
    day, noon = date(2026, 11, 10), datetime(2026, 11, 10, 11, tzinfo=UTC)
    priced, unpriced, gateway = books.tenant("priced"), books.tenant("unpriced"), books.gateway()
    gateway.uses(priced, noon, prompt=10)
    gateway.uses(unpriced, noon, prompt=10, variant="qwen-of-next-year")
    gateway.reports(windows.closes_at(day))
    books.engine_is_idle(windows.closes_at(day))
    keys = [books.seal(tenant, day).key for tenant in (priced, unpriced)]
    result = location.run("process_day", "2026-11-10")
    assert [books.state(key) for key in keys] == ["reconciled", "held"]
    verdicts = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert verdicts == {
        "usage_daily_rows_fit": True,
        "every_event_is_counted": False,
        "tokens_are_those_of_the_tokenizer": True,
        "rated_usage_rows_fit": True,
        "tokens_counted_are_tokens_rated": True,
        "events_equal_engine_counters": True,
        "archive_equals_table": True,
        "gpu_seconds_cover_events": True,
        "trained_tokens_are_the_trainers": True,
        "usage_is_like_before": True,
        "prices_go_on": True,
        "archive_rates_to_the_same": True,
    }


def test_one_tenants_trouble_stops_nobody_elses_day_and_is_named(
    books: Books, location: Location, objects: ObjectStore
) -> None:
    """An overflow from before there was a bound, a damaged file in the archive, a manifest that was changed."""
    day, noon, gateway = date(2026, 11, 10), datetime(2026, 11, 10, 11, tzinfo=UTC), books.gateway()
    tenants = {name: books.tenant(name) for name in ("fine", "overflow", "damaged", "changed")}
    events = {name: gateway.uses(tenant, noon, prompt=10) for name, tenant in tenants.items()}
    books.engine_tokens["prompt_tokens"] -= 10  # no engine has counted the impossible one
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update usage_events set prompt_tokens = %s, completion_tokens = 1 where id = %s",
            [2**63 - 1, events["overflow"]],
        )
    gateway.reports(windows.closes_at(day))
    books.engine_is_idle(windows.closes_at(day))
    keys = {name: books.seal(tenant, day).key for name, tenant in tenants.items()}
    assert location.run("archive_day", "2026-11-10").success
    with books.as_role("auditor") as session:
        file = next(row.object_key for row in archive.archived(session, day) if row.tenant_id == tenants["damaged"])
    objects.put(Bucket.USAGE_ARCHIVE, file, b"PAR1")
    with books.database.superuser() as connection:
        connection.execute(
            "update usage_windows set manifest = jsonb_set(manifest, '{prompt_tokens}', '11') where tenant_id = %s",
            [tenants["changed"]],
        )
    result = location.run("process_day", "2026-11-10")
    states = {name: books.state(key) for name, key in keys.items()}
    assert states == {"fine": "reconciled", "overflow": "held", "damaged": "rated", "changed": "sealed"}
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    counted, rated = checks["every_event_is_counted"], checks["archive_rates_to_the_same"]
    assert not counted.passed
    assert not rated.passed
    assert str(events["overflow"]) in str(counted.metadata["held_events"].value)
    assert f"tnt_{tenants['changed'].hex}" in str(counted.metadata["short"].value)
    assert file in str(rated.metadata["comparisons"].value)
    with books.as_role("auditor") as session:
        assert [entry.event_id for entry in quarantine.entries(session)] == [events["overflow"]]


def test_usage_that_is_older_than_the_archive_is_caught_up_with(books: Books, location: Location) -> None:
    """Here the domain has processed the day, as everything did before there was an archive."""
    tenant, gateway, day = books.tenant(), books.gateway(), date(2026, 11, 10)
    gateway.uses(tenant, datetime(2026, 11, 10, 11, tzinfo=UTC), prompt=10)
    books.close_day(gateway, tenant, day)
    (request,) = location.asks("archive_gaps")
    assert location.carry_out(request, "archive_day").success
    assert location.asks("archive_gaps") == []
    with books.as_role("auditor") as session:
        assert [row.events for row in archive.archived(session, day)] == [1]


def test_the_calendar_seals_yesterday_and_observes_arrivals(books: Books, location: Location) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, clock.now() - timedelta(days=2), prompt=10)
    gateway.uses(tenant, clock.now(), prompt=10)
    gateway.reports(clock.now(), pending=1)
    for pending, sealed in ((1, 0), (0, 1), (0, 1)):
        gateway.reports(clock.now(), pending=pending)
        with location.tick("closed_days") as said:
            observation, is_sealed, is_of_now, fits = said.asset_events
        assert is_sealed.passed is (pending == 0)
        assert ("gateway-0 has 1 events still to ship" in str(is_sealed.metadata)) is (pending == 1)
        assert is_of_now.passed
        assert fits.passed
        assert observation.metadata["events"].value == 1
        assert (observation.metadata["sources"].value, observation.metadata["pending_events"].value) == (1, pending)
        with books.as_role("auditor") as session:
            assert len(windows.seals(session)) == sealed


def test_an_event_from_a_broken_clock_is_shown(books: Books, location: Location) -> None:
    event = books.gateway().uses(books.tenant(), clock.now() + timedelta(days=4000), prompt=10)
    with location.tick("closed_days") as said:
        is_of_now = said.asset_events[-2]
    assert not is_of_now.passed
    assert str(event) in str(is_of_now.metadata["events"].value)


def test_the_catalog_is_synchronised_when_its_files_change(books: Books, location: Location) -> None:
    assert location.asks("catalog_changed") == []
    with books.database.superuser() as connection:
        connection.execute("update catalog_syncs set content_hash = 'of yesterday'")
    (request,) = location.asks("catalog_changed")
    assert location.carry_out(request, "sync_catalog").success
    assert location.asks("catalog_changed") == []


def test_the_fleet_follows_the_catalog_inside_the_tick(books: Books, location: Location) -> None:
    with location.tick("fleet_reconcile") as said:
        (event,) = said.asset_events
    with location.tick("fleet_reconcile") as said:
        assert said.skip_message == "The desired replicas are as they should be."
    assert event.asset_key == dg.AssetKey("desired_replicas")
    with books.as_role("auditor") as session:
        wanted = session.scalars(select(DesiredReplicas.variant_id).where(DesiredReplicas.replicas == 1)).all()
    assert sorted(wanted) == ["chat", "embedding"]
