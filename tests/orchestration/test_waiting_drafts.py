"""A draft that lacks a rate of exchange waits, and is made as soon as the rate is there, however long that took."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from billing import invoice_requests
from studio import clock, tenants
from studio.catalog.sync import sync_catalog
from studio.db.invoices import Invoice, InvoiceRequest
from studio.money import Currency
from tests.billing.books import BUYER, CATALOG, Books
from tests.orchestration.location import Location


def test_a_draft_waits_for_its_rate_and_is_made_when_the_rate_comes(
    books: Books, location: Location, tmp_path: Path
) -> None:
    billing = tenants.Billing("xpulink-de", Currency.CNY, "Europe/Berlin", BUYER, date(2026, 1, 1))
    with books.as_role("operator") as session:
        tenant = tenants.create_tenant(session, "yuan", "Kunde AG", billing, "test")
    gateway, at = books.gateway(), clock.now()
    day = at.astimezone(clock.BERLIN).date()
    month = clock.month_start(day)  # the running month has no average yet
    gateway.uses(tenant, at, prompt=100_000_000)
    books.close_day(gateway, tenant, day)
    with books.as_role("operator") as session:
        invoice_requests.request_invoice(
            session, tenant_id=tenant, month=month, by="ops", reason="test", now=at - timedelta(days=30)
        )

    (asked,) = location.asks("invoice_requests")
    result = location.carry_out(asked, "draft_invoices")
    verdicts = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert not verdicts["every_request_is_answered"]
    assert "The average rate of EUR/CNY" in str(_metadata(result, "refused_requests"))
    assert [one.run_key for one in location.asks("invoice_requests")] == [asked.run_key]  # Dagster runs a key once

    shutil.copytree(CATALOG.folder, tmp_path, dirs_exist_ok=True)
    legal = yaml.safe_load((tmp_path / "legal_entities.yaml").read_text())
    legal["fx_rates"] = [{"quote": "CNY", "month": month, "rate": 7.5, "document": "published"}]
    (tmp_path / "legal_entities.yaml").write_text(yaml.safe_dump(legal))
    with books.as_role("worker") as session:
        sync_catalog(session, tmp_path, CATALOG.site)

    (again,) = location.asks("invoice_requests")
    assert again.run_key != asked.run_key
    assert location.carry_out(again, "draft_invoices").success
    with books.as_role("auditor") as session:
        draft = session.scalars(select(Invoice)).one()
        request = session.scalars(select(InvoiceRequest)).one()
    assert draft.tax_details["euro"]["units_per_euro"] == "7.5000"
    assert request.answered_at is not None
    assert location.asks("invoice_requests") == []


def _metadata(result: Any, name: str) -> Any:
    (event,) = result.asset_materializations_for_node("invoice_drafts")
    return event.metadata[name].value
