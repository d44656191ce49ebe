"""A tenant's own prices, tiers and commitments, from the act of setting them to the invoice."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError

from billing import costs, price_book
from billing.documents import frozen_rows
from billing.paper import paper
from billing.price_book import OwnPrice, PriceOverlaps
from billing.tiers import Tier
from serving.fleet.view import Fleet, Price
from studio.db.catalog import PriceTier
from studio.db.invoices import InvoiceLine
from studio.db.sessions import tenant_scope
from studio.errors import Conflict, InvalidRequest
from tests.billing.books import CHAT, Books

DAY, MONTH = date(2026, 11, 10), date(2026, 11, 1)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
BEFORE, LATER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 1, 9, tzinfo=UTC)


def set_price(books: Books, tenant: UUID, per_million: str, **terms: Any) -> OwnPrice:
    given: dict[str, Any] = {
        "tiers": (),
        "valid_from": BEFORE,
        "valid_until": None,
        "retroactive": False,
        "unit": "prompt",
    } | terms
    with books.as_role("operator") as session:
        return price_book.set_price(
            session, tenant_id=tenant, variant_id=CHAT, per_million=Decimal(per_million), by="key:finance",
            reason="contract 7", now=BEFORE, **given,
        )  # fmt: skip


def lines(books: Books, invoice_id: UUID | None) -> list[tuple[str, int, Decimal, Decimal]]:
    assert invoice_id is not None
    query = select(InvoiceLine.unit, InvoiceLine.tokens, InvoiceLine.per_million, InvoiceLine.amount)
    with books.as_role("auditor") as session:
        rows = session.execute(query.where(InvoiceLine.invoice_id == invoice_id).order_by(InvoiceLine.line_no))
        return [(row.unit, row.tokens, row.per_million, row.amount) for row in rows]


def commit(books: Books, tenant: UUID, amount: str) -> None:
    with books.as_role("operator") as session:
        price_book.commit(
            session, tenant_id=tenant, amount=Decimal(amount), valid_from=date(2026, 10, 1), valid_until=None,
            by="key:finance", reason="contract 7", now=BEFORE,
        )  # fmt: skip


def test_a_tenants_own_price_goes_before_the_list_for_it_alone_and_for_its_time(books: Books) -> None:
    tenant, other, gateway = books.tenant(), books.tenant("nachbar"), books.gateway()
    set_price(books, tenant, "0.005", valid_until=NOON)
    for one in (tenant, other):
        gateway.uses(one, NOON - timedelta(hours=1), prompt=100_000_000, completion=100_000_000)
        gateway.uses(one, NOON, prompt=100_000_000)
        books.close_day(gateway, one, DAY)
    assert sorted(line[2:] for line in lines(books, books.draft(tenant, MONTH, LATER))) == [
        (Decimal("0.005"), Decimal("0.50")),
        (Decimal("0.02"), Decimal("2.00")),
        (Decimal("0.04"), Decimal("4.00")),
    ]
    assert [line[3] for line in lines(books, books.draft(other, MONTH, LATER))] == [Decimal("4.00"), Decimal("4.00")]


def test_own_prices_overlap_never_begin_in_the_past_unasked_and_end_once(books: Books) -> None:
    tenant = books.tenant()
    own = set_price(books, tenant, "0.005")
    with pytest.raises(PriceOverlaps):
        set_price(books, tenant, "0.004", valid_from=LATER)
    with pytest.raises(InvalidRequest, match="in the past"):
        set_price(books, tenant, "0.004", valid_from=BEFORE - timedelta(days=1))
    with pytest.raises(InvalidRequest, match="is sold by prompt, cached_prompt"):
        set_price(books, tenant, "0.004", unit="embedding")
    with books.as_role("operator") as session:
        price_book.end_price(session, tenant, own.id, LATER, BEFORE)
    with books.as_role("operator") as session, pytest.raises(Conflict, match="ends already"):
        price_book.end_price(session, tenant, own.id, LATER, BEFORE)
    set_price(books, tenant, "0.004", valid_from=LATER)
    with books.as_role("auditor") as session:
        assert [(one.per_million, one.approved_by) for one in price_book.own_prices(session, tenant)] == [
            (Decimal("0.005"), "key:finance"),
            (Decimal("0.004"), "key:finance"),
        ]


def test_budgets_settle_at_what_the_tenant_pays(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    set_price(books, tenant, "0.005")
    gateway.uses(tenant, NOON, prompt=1_000_000, completion=1_000_000)
    with books.database.superuser() as connection:
        connection.execute(
            "with b as (insert into budgets (tenant_id, kind, currency, amount, created_at)"
            "           values (%s, 'prepaid', 'EUR', 5, %s) returning id),"
            " a as (insert into budget_accounts (budget_id, period) select id, %s from b)"
            " insert into budget_draws (budget_id, period, source_id, amount) select id, %s, %s, 5 from b",
            (tenant, BEFORE, BEFORE.date(), BEFORE.date(), gateway.id),
        )
        connection.execute("select settle_draws(%s)", (gateway.id,))
        assert connection.execute("select spent from budget_accounts").fetchall() == [(Decimal("0.045"),)]


def test_what_is_reserved_with_is_the_tenants_own_price_and_the_lists_for_all_else() -> None:
    mine, other = uuid4(), uuid4()
    listed = tuple(Price(CHAT, unit, "EUR", Decimal(2)) for unit in ("prompt", "completion"))
    own = Price(CHAT, "prompt", "EUR", Decimal(1))
    fleet = Fleet(prices={CHAT: listed}, own_prices={(mine, CHAT): (own,)})
    assert set(fleet.prices_for(mine, CHAT)) == {own, listed[1]}
    assert fleet.prices_for(other, CHAT) == listed


def test_the_list_and_own_prices_have_different_writers_and_tiers_come_with_their_price(books: Books) -> None:
    tenant = books.tenant()
    own = set_price(books, tenant, "0.02", tiers=[Tier(1_000, Decimal("0.01"))])
    late = insert(PriceTier).values(price_id=own.id, from_tokens=9_000, per_million=Decimal("0.001"))
    with books.as_role("operator") as session, pytest.raises(DBAPIError, match="recorded with it, or never"):
        session.execute(late)
    for role, owner in (("operator", "null"), ("worker", f"'{tenant}'")):
        forged = text(
            "insert into prices (currency, variant_id, unit, per_million, valid_from, tenant_id, approved_by, reason)"
            f" select 'CNY', 'chat', 'prompt', 0, '2030-01-01', t, 'x' || t, 'x' || t from (select {owner}::uuid t) s"
        )
        with books.as_role(role) as session, pytest.raises(DBAPIError, match="row-level security"):  # type: ignore[arg-type]
            session.execute(forged)
    with books.as_role("worker") as session:  # it sees them, and cannot end them
        ended = session.execute(text("update prices set valid_until = now() where tenant_id is not null"))
        assert ended.rowcount == 0  # type: ignore[attr-defined]


def test_a_tenant_sees_the_list_and_its_own_prices_only(books: Books) -> None:
    tenant, other = books.tenant(), books.tenant("nachbar")
    set_price(books, tenant, "0.005", tiers=[Tier(10, Decimal("0.001"))])
    with books.as_role("gateway") as session:
        assert session.execute(text("select count(*) from prices where tenant_id is not null")).scalar_one() == 0
    for one, seen in ((tenant, 1), (other, 0)):
        with tenant_scope(books.engines["gateway"], one) as session:
            counts = session.execute(
                text("select (select count(*) from prices where tenant_id is not null), count(*) from price_tiers")
            ).one()
        assert tuple(counts) == (seen, seen)


def test_tiers_are_filled_once_over_all_invoices_of_a_month_and_costs_say_the_same(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    set_price(books, tenant, "1", tiers=[Tier(3_000_000, Decimal("0.5")), Tier(10_000_000, Decimal("0.1"))])
    for days in (timedelta(0), timedelta(1)):
        gateway.uses(tenant, NOON + days, prompt=2_000_000)
        books.close_day(gateway, tenant, DAY + days)
    first = books.draft(tenant, MONTH, LATER)
    assert [line[1:] for line in lines(books, first)] == [
        (3_000_000, Decimal(1), Decimal("3.00")),
        (1_000_000, Decimal("0.5"), Decimal("0.50")),
    ]
    assert first is not None
    books.finalize(first, LATER)
    gateway.uses(tenant, NOON + timedelta(days=1), prompt=9_000_000)  # late: it fills what is left of the tiers
    books.close_day(gateway, tenant, DAY + timedelta(days=1))
    second = books.draft(tenant, MONTH, LATER)
    assert [line[1:] for line in lines(books, second)] == [
        (6_000_000, Decimal("0.5"), Decimal("3.00")),
        (3_000_000, Decimal("0.1"), Decimal("0.30")),
    ]
    with books.as_role("auditor") as session:
        found = costs.day_costs(session, tenant, DAY, date(2026, 12, 1), by_line_item=False, line_items=())
        by_item = costs.day_costs(session, tenant, DAY, date(2026, 12, 1), by_line_item=True, line_items=())
        invoiced = session.scalars(select(func.sum(InvoiceLine.exact))).one()
    assert [cost.amount for cost in found] == [Decimal(2), Decimal("4.8")]
    assert sum(cost.amount for cost in found) == invoiced
    assert sum(cost.amount for cost in by_item if cost.line_item == "chat, prompt") == invoiced


def test_what_a_month_lacks_to_the_commitment_is_a_line_with_tax_and_late_usage_counts_towards_it(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    commit(books, tenant, "10.00")
    gateway.uses(tenant, NOON, prompt=200_000_000)
    books.close_day(gateway, tenant, DAY)
    early = books.draft(tenant, MONTH, NOON + timedelta(days=2))
    assert [line[0] for line in lines(books, early)] == ["prompt"]  # the month is not over
    assert books.draft(tenant, MONTH, LATER) is None  # the gateway may hold usage of the days since
    gateway.reports(LATER)
    invoice_id = books.draft(tenant, MONTH, LATER)
    assert invoice_id is not None
    assert invoice_id != early
    assert lines(books, invoice_id) == [("minimum_commitment", 1_000_000, Decimal(6), Decimal("6.00"))]
    invoice = books.invoice(invoice_id)
    assert (invoice.net, invoice.tax, invoice.gross) == (Decimal("6.00"), Decimal("1.14"), Decimal("7.14"))
    with books.as_role("auditor") as session:
        (line,) = paper(frozen_rows.of_invoice(session, invoice_id)).lines
    assert (line.unit, line.amount) == ("minimum commitment", "6.00")
    assert line.explanation == "minimum commitment of 10.00 EUR a month, less usage of 4.00 EUR"
    books.finalize(invoice_id, LATER)
    gateway.uses(tenant, NOON, prompt=500_000_000)
    books.close_day(gateway, tenant, DAY)
    gateway.reports(LATER)
    late = books.draft(tenant, MONTH, LATER)
    assert [(unit, amount) for unit, _, _, amount in lines(books, late)] == [
        ("prompt", Decimal("10.00")),
        ("minimum_commitment", Decimal("-6.00")),
    ]
    assert late is not None
    books.finalize(late, LATER)  # booked, too: the ledger sums to zero


def test_a_month_without_usage_owes_its_commitment(books: Books) -> None:
    tenant = books.tenant()
    assert books.draft(tenant, MONTH, LATER) is None
    commit(books, tenant, "10.00")
    invoice_id = books.draft(tenant, MONTH, LATER)
    assert [line[3] for line in lines(books, invoice_id)] == [Decimal("10.00")]
    assert books.draft(tenant, MONTH, LATER) is None  # once
