"""Rounding as the price list names it: by month, on the invoice, in its documents; a mode that was named stays."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from billing.documents import frozen_rows, invariants
from studio.catalog.judged import CatalogInvalid
from studio.catalog.sync import sync_catalog
from studio.money import RoundingMode
from tests.billing.books import CATALOG, Books

OCTOBER, NOW = datetime(2026, 10, 10, 11, tzinfo=UTC), datetime(2026, 11, 20, 11, tzinfo=UTC)
LATER = datetime(2026, 11, 10, 11, tzinfo=UTC)


def declare(books: Books, folder: Path, *modes: str) -> None:
    shutil.copytree(CATALOG.folder, folder, dirs_exist_ok=True)
    (folder / "price_lists.yaml").write_text(f"price_lists: {{EUR: {{rounding: [{', '.join(modes)}]}}}}\n")
    with books.as_role("worker") as session:
        sync_catalog(session, folder, CATALOG.site)


def test_an_invoice_is_rounded_as_its_list_names_for_its_month(books: Books, tmp_path: Path) -> None:
    declare(books, tmp_path, "{valid_from: 2026-11-01, mode: half_even}")
    tenant, gateway = books.tenant(), books.gateway()
    found = []
    for at in (OCTOBER, LATER):
        gateway.uses(tenant, at, prompt=1_250_000, completion=1_875_000)  # 0.025 and 0.075 EUR
        books.close_day(gateway, tenant, at.date())
        invoice_id = books.draft(tenant, at.date().replace(day=1), NOW)
        assert invoice_id is not None
        books.finalize(invoice_id, NOW)
        with books.as_role("auditor") as session:
            snapshot = frozen_rows.of_invoice(session, invoice_id)
        assert invariants.of_snapshot(snapshot, NOW.date()) == []
        assert {line.rated_by for line in snapshot.lines} == {"rating-1"}
        found.append((books.invoice(invoice_id).rounding_mode, snapshot.rounding_mode, snapshot.net))
    assert found == [
        ("half_up", RoundingMode.HALF_UP, Decimal("0.11")),
        ("half_even", RoundingMode.HALF_EVEN, Decimal("0.10")),
    ]


def test_a_mode_that_was_named_never_changes(books: Books, tmp_path: Path) -> None:
    declare(books, tmp_path, "{valid_from: 2026-01-01, mode: half_up}")
    with pytest.raises(
        CatalogInvalid, match=r"price_lists.yaml:1: the rounding of EUR invoices from 2026-01-01 is half_up"
    ):
        declare(books, tmp_path, "{valid_from: 2026-01-01, mode: half_even}")
    with pytest.raises(CatalogInvalid, match="begins in the past; invoices may have been made"):
        declare(books, tmp_path, "{valid_from: 2026-01-01, mode: half_up}", "{valid_from: 2026-02-01, mode: half_even}")
    with pytest.raises(CatalogInvalid, match=r"2199-01-02 is not the first of one"):
        declare(books, tmp_path, "{valid_from: 2199-01-02, mode: half_up}")
    declare(books, tmp_path, "{valid_from: 2026-01-01, mode: half_up}", "{valid_from: 2199-01-01, mode: half_even}")
    with books.as_role("auditor") as session:
        rows = session.execute(text("select currency, valid_from, mode from rounding_modes order by 2")).all()
    assert [tuple(row) for row in rows] == [
        ("EUR", date(2026, 1, 1), "half_up"),
        ("EUR", date(2199, 1, 1), "half_even"),
    ]
