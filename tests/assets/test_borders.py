"""The borders: rows of the right shape pass, and what does not fit is shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

from assets import borders, frozen_borders
from billing.border_rows import FinalInvoice, StoredDocument, UsageGroup
from billing.invoice_list import InvoiceTotals
from billing.rated_lines import Line
from billing.statement import Statement
from billing.usage import DailyTokens

DAY = date(2026, 11, 10)
COUNTED = DailyTokens(
    window_day=DAY, tenant_id=uuid4(), seal_no=1, variant_id="model", unit="prompt", price_id=uuid4(), billing_day=DAY,
    basis="", time_zone="Europe/Berlin", legal_entity_id="xpulink-de", currency="EUR", events=2, tokens=12_500,
)  # fmt: skip
RATED = Line(
    tenant_id=uuid4(), seal_no=1, variant_id="model", unit="prompt", billing_day=DAY, basis="", currency="EUR",
    tokens=12_500, per_million=Decimal("0.250000"), amount=Decimal("0.003125000000"),
)  # fmt: skip
STATED = Statement(uuid4(), "EUR", "xpulink-de", 12_500, Decimal("2.000000000001"), Decimal(2), 0)
DRAFTED = InvoiceTotals(
    invoice_id=uuid4(), tenant_id=uuid4(), month=DAY, state="draft", number=None, currency="EUR", lines=1,
    net=Decimal("1.00"), tax=Decimal("0.19"), gross=Decimal("1.19"),
)  # fmt: skip


def test_good_rows_pass_and_so_do_none() -> None:
    assert borders.violations(borders.usage_daily_schema(), [COUNTED]) == []
    assert borders.violations(borders.rated_usage_schema(), [RATED]) == []
    assert borders.violations(borders.account_statements_schema(), [STATED]) == []
    assert borders.violations(borders.invoice_drafts_schema(), [DRAFTED]) == []
    assert borders.violations(borders.usage_daily_schema(), []) == []


def test_the_borders_of_what_is_never_replaced() -> None:
    usage = UsageGroup(DAY, uuid4(), "/v1/chat/completions", "model", "complete", 2, 10, 4, 5, 1)
    final = FinalInvoice(
        uuid4(), "XDE-2026-000001", DAY, "EUR", "half_up", Decimal("1.00"), Decimal("1.00"), Decimal("0.19"),
        Decimal("1.19"), Decimal("0.00"),
    )  # fmt: skip
    hashed = "0f" * 32
    stored = StoredDocument(uuid4(), "pdf", f"tnt_1/XDE-2026-000001/{hashed}.pdf", hashed, 9)
    of_usage = partial(_violations, borders.usage_events_schema())
    of_invoices = partial(_violations, frozen_borders.invoices_schema())
    of_documents = partial(_violations, frozen_borders.invoice_documents_schema())
    assert of_usage(usage) == of_invoices(final) == of_documents(stored) == []
    assert of_usage(replace(usage, cached_tokens=11))
    assert of_usage(replace(usage, end_reason="vanished"))
    assert of_usage(replace(usage, lowest_seq=0))
    assert of_invoices(replace(final, number="DRAFT / ENTWURF"))
    assert of_invoices(replace(final, lines_net=Decimal("0.99")))
    assert of_invoices(final, replace(final, invoice_id=uuid4()))  # a number twice
    assert of_documents(replace(stored, sha256="f0" * 32))
    assert of_documents(stored, replace(stored, object_key=f"elsewhere/{hashed}"))


def test_all_that_is_wrong_is_named_at_once() -> None:
    wrong = [replace(COUNTED, unit="minutes"), replace(COUNTED, tokens=0, seal_no=2)]
    found = borders.violations(borders.usage_daily_schema(), wrong)
    assert {(case["column"], case["failure_case"]) for case in found} == {("unit", "minutes"), ("tokens", "0")}


def test_a_row_counted_twice_is_refused() -> None:
    assert borders.violations(borders.usage_daily_schema(), [COUNTED, COUNTED])


def test_more_invoiced_than_used_is_refused() -> None:
    assert borders.violations(borders.account_statements_schema(), [replace(STATED, invoiced=Decimal(3))])


def test_a_total_that_does_not_add_up_is_refused() -> None:
    assert borders.violations(borders.invoice_drafts_schema(), [replace(DRAFTED, gross=Decimal("1.20"))])


def _violations(schema: Any, *rows: Any) -> Any:
    return borders.violations(schema, rows)
