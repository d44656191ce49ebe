"""Tier bought is tier billed: what missed its published target pays the base price, and says so."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import select

from billing import missed_targets, price_book, receipt
from billing.missed_targets import Missed, Promised
from studio.db.invoices import InvoiceLine
from studio.db.sessions import tenant_scope
from tests.billing.books import Books

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
DAY, NEXT = date(2026, 11, 10), date(2026, 11, 11)
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)
WHY = "at the base price: the first token came after its published target"
LATE, IN_TIME = timedelta(milliseconds=501), timedelta(milliseconds=500)


def test_a_late_first_token_is_billed_at_base_with_the_reason_on_the_line(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    late = gateway.uses(tenant, NOON, prompt=1_000_000, variant="chat-fast", first_token_after=LATE)
    for terms in (
        {"variant": "chat-fast", "first_token_after": IN_TIME},
        {"variant": "chat-fast"},  # not measured: an answer that was not streamed
        {"variant": "chat", "first_token_after": LATE},
    ):
        gateway.uses(tenant, NOON, prompt=1_000_000, **terms)
    gateway.uses(tenant, NOON, prompt=1_000_001, variant="chat-fast", first_token_after=LATE)  # too long a prompt
    books.close_day(gateway, tenant, DAY)
    invoice_id = books.draft(tenant, DAY.replace(day=1), LATER)
    with books.as_role("auditor") as session:
        query = select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id).order_by(InvoiceLine.line_no)
        lines = [(line.variant_id, line.tokens, line.per_million, line.explanation) for line in session.scalars(query)]
        assert missed_targets.billed_at_base(session, DAY, NEXT) == [
            Missed(tenant, "kunde", "chat-fast", "EUR", 1_000_000, Decimal("0.02"), Decimal("0.012"))
        ]
        kept = missed_targets.kept(session, NOON, NOON + timedelta(hours=1))
        assert kept == [Promised("chat-fast", 500, requests=2, missed=1)]
    neighbour = books.tenant("nachbar")
    with books.as_role("gateway"):
        for whose, amounts in ((tenant, [Decimal("0.012")]), (neighbour, [])):  # as tenants see it: their own
            with tenant_scope(books.engines["gateway"], whose) as session:
                assert [one.given_up for one in missed_targets.billed_at_base(session, DAY, NEXT)] == amounts
    assert sorted(lines) == [
        ("chat", 1_000_000, Decimal("0.02"), "1,000,000 prompt tokens x 0.02 EUR / 1,000,000"),
        (
            "chat-fast",
            1_000_000,
            Decimal("0.02"),
            f"1,000,000 prompt tokens x 0.02 EUR / 1,000,000 ({WHY})",
        ),
        ("chat-fast", 3_000_001, Decimal("0.032"), "3,000,001 prompt tokens x 0.032 EUR / 1,000,000"),
    ]
    with books.as_role("gateway"), tenant_scope(books.engines["gateway"], tenant) as session:
        document = receipt.document_of(session, tenant, late, "key")
    assert document is not None
    (line,) = document["lines"]
    assert (line["price"]["of"], line["basis"]) == (
        "chat, prompt",
        WHY,
    )


def test_a_miss_never_costs_more(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id="chat-fast", unit="prompt", per_million=Decimal("0.01"), tiers=(),
            valid_from=NOON, valid_until=None, retroactive=False, by="key:finance", reason="contract", now=NOON,
        )  # fmt: skip
    gateway.uses(tenant, NOON, prompt=1_000_000, variant="chat-fast", first_token_after=LATE)
    books.close_day(gateway, tenant, DAY)
    invoice_id = books.draft(tenant, DAY.replace(day=1), LATER)
    assert invoice_id is not None
    assert books.invoice(invoice_id).net == Decimal("0.01")
