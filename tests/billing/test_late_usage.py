"""Late usage has the price, the VAT rate and the rate of exchange of its own time, whenever it is invoiced."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from sqlalchemy import insert, select

from billing import price_book
from studio import tenants
from studio.db.documents import FxRate
from studio.db.invoices import InvoiceLine
from studio.money import Currency
from tests.billing.books import BUYER, CHAT, Books

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
LAST_OF_OCTOBER = datetime(2026, 10, 31, 22, 59, tzinfo=UTC)  # a minute to midnight in Berlin
NOON = datetime(2026, 11, 10, 11, tzinfo=UTC)
NOW = datetime(2026, 12, 5, 11, tzinfo=UTC)


def test_late_usage_is_taxed_and_converted_as_in_its_own_month(books: Books) -> None:
    billing = tenants.Billing("xpulink-de", Currency.CNY, "Europe/Berlin", BUYER, date(2026, 1, 1))
    with books.as_role("operator") as session:
        tenant = tenants.create_tenant(session, "yuan", "Kunde AG", billing, "test")
        price_book.set_price(
            session, tenant_id=tenant, variant_id=CHAT, unit="reused", per_million=Decimal(9), tiers=(),
            valid_from=datetime(2026, 11, 1, tzinfo=UTC), valid_until=None, retroactive=True, by="key:finance",
            reason="test", now=NOW,
        )  # fmt: skip
    with books.database.superuser() as connection:
        connection.execute("update tax_rates set valid_until = '2026-11-01' where country = 'DE' and category = 'S'")
        connection.execute(
            "insert into tax_rates (country, category, rate, valid_from, source)"
            " values ('DE', 'S', 0.21, '2026-11-01', 'a law of this test')"
        )
    with books.as_role("worker") as session:
        for month, rate in ((OCTOBER, "7.4883"), (NOVEMBER, "7.9000")):
            row = {"month": month, "rate": Decimal(rate), "derivation": "test"}
            session.execute(insert(FxRate).values(quote="CNY", source="BMF", **row))
    gateway = books.gateway()
    gateway.uses(tenant, NOON, prompt=1_000_000, reused_prompt=1_000_000)
    books.close_day(gateway, tenant, NOON.date())
    first = books.draft(tenant, NOVEMBER, NOW)
    assert first is not None
    books.finalize(first, NOW)

    many = 1_000_000_000
    gateway.uses(tenant, LAST_OF_OCTOBER, prompt=many, reused_prompt=many)  # arrives when November is invoiced
    books.close_day(gateway, tenant, LAST_OF_OCTOBER.date())
    assert books.draft(tenant, NOVEMBER, NOW) is None
    late = books.draft(tenant, OCTOBER, NOW)
    assert late is not None
    books.finalize(late, NOW)

    of_november, of_october = books.invoice(first), books.invoice(late)
    assert (of_november.net, of_november.tax_rate, of_november.tax) == (
        Decimal("9.00"),
        Decimal("0.21"),
        Decimal("1.89"),
    )
    assert (of_october.net, of_october.tax_rate, of_october.tax) == (Decimal("16.00"), Decimal("0.19"), Decimal("3.04"))
    assert (of_october.period_from, of_october.period_until) == (date(2026, 10, 31), date(2026, 10, 31))
    euro = [invoice.tax_details["euro"] for invoice in (of_november, of_october)]
    assert [(one["month"], one["units_per_euro"]) for one in euro] == [
        ("2026-11-01", "7.9000"),
        ("2026-10-01", "7.4883"),
    ]
    with books.as_role("auditor") as session:
        prices = session.scalars(select(InvoiceLine.per_million).where(InvoiceLine.invoice_id == late)).all()
    assert prices == [Decimal("0.016")]
