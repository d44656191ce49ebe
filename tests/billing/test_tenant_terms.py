"""How a tenant is billed changes from a day on: the new buyer stands on what is drafted after, and a month has one
seller. The clock of these tests stands at the tenth of November."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from billing import draft, invoice_requests, tenant_terms
from billing.approval import DraftIsVoid
from billing.documents.completeness import BuyerIncomplete
from billing.draft import SeveralSellersInMonth
from billing.tenant_terms import Changed, DaysAreInvoiced
from studio.errors import InvalidRequest
from studio.money import Currency
from tests.billing.books import Books, Gateway
from tests.billing.test_invoice_again import ask_again, cancel, draft_of

DAY, MONTH, DECEMBER = date(2026, 11, 10), date(2026, 11, 1), date(2026, 12, 1)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER, MUCH_LATER = datetime(2026, 12, 1, 9, tzinfo=UTC), datetime(2027, 1, 4, 9, tzinfo=UTC)
MILLION = 1_000_000
TO_CHINA: dict[str, Any] = {
    "legal_entity_id": "xpulink-cn",
    "currency": Currency.CNY,
    "buyer": {"country": "CN", "vat_id": None},
}


@pytest.fixture
def gateway(books: Books) -> Gateway:
    return books.gateway()


@pytest.fixture
def tenant(books: Books) -> UUID:
    return books.tenant()


def change(books: Books, tenant: UUID, first: date, *, buyer: dict[str, Any] | None = None, **terms: Any) -> Changed:
    with books.as_role("operator") as session:
        old = tenant_terms.terms_on(session, tenant, first)
        new = replace(old, valid_from=first, buyer={**old.buyer, **(buyer or {})}, **terms)
        return tenant_terms.change(session, tenant, new, by="finance", now=NOON)


def spans(books: Books, tenant: UUID) -> list[tuple[date, date | None, str]]:
    with books.as_role("auditor") as session:
        rows = tenant_terms.history(session, tenant)
    return [(row.valid_from, row.valid_until, str(row.buyer["name"])) for row in rows]


def test_a_change_holds_from_its_day_on_until_what_is_recorded_for_later(books: Books, tenant: UUID) -> None:
    since = date(2026, 1, 1)
    change(books, tenant, DECEMBER, buyer={"name": "Kunde SE"})
    change(books, tenant, DAY, buyer={"name": "Kunde KG"})
    assert spans(books, tenant) == [(since, DAY, "Kunde AG"), (DAY, DECEMBER, "Kunde KG"), (DECEMBER, None, "Kunde SE")]
    assert change(books, tenant, DAY, buyer={"name": "Kunde eK"}).names == ("buyer.name",)  # in the place of that
    assert spans(books, tenant)[1] == (DAY, DECEMBER, "Kunde eK")
    with pytest.raises(InvalidRequest, match="hold already"):
        change(books, tenant, DAY, buyer={"name": "Kunde eK"})
    with pytest.raises(InvalidRequest, match="Nobody bills the tenant on 2025-12-31: its terms begin later"):
        change(books, tenant, since - timedelta(days=1))


def test_terms_that_cannot_be_are_refused(books: Books, tenant: UUID) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"buyer": {"vat_id": "DE111111112"}}, "no VAT id of a member state"),
        ({"buyer": {"city": ""}}, "needs a town"),
        ({"buyer": {"name": ""}}, "needs a name"),
        ({"buyer": {"country": "FR", "vat_id": None}}, "reverse charge, which needs the buyer's VAT id"),
        ({"time_zone": "Europe/Atlantis"}, "Europe/Atlantis"),
        ({"legal_entity_id": "xpulink-us"}, "no legal entity 'xpulink-us'"),
    ]
    for terms, words in cases:
        with pytest.raises(InvalidRequest, match=words):
            change(books, tenant, DECEMBER, **terms)


def test_a_vat_id_is_kept_in_its_normal_form(books: Books, tenant: UUID) -> None:
    change(books, tenant, DECEMBER, buyer={"country": "FR", "vat_id": "FR 40 303265045"})
    with books.as_role("auditor") as session:
        assert tenant_terms.terms_on(session, tenant, DECEMBER).buyer["vat_id"] == "FR40303265045"


def test_a_tenant_moves_only_where_a_month_to_come_begins(books: Books, tenant: UUID) -> None:
    for first in (MONTH, DAY, DECEMBER + timedelta(days=1)):
        with pytest.raises(InvalidRequest, match="a month has one seller and one currency"):
            change(books, tenant, first, **TO_CHINA)


def test_no_instant_belongs_to_two_days_or_to_none(books: Books, tenant: UUID) -> None:
    with pytest.raises(InvalidRequest, match="begins at another instant in Asia/Shanghai than in Europe/Berlin"):
        change(books, tenant, DECEMBER, **TO_CHINA, time_zone="Asia/Shanghai")
    assert change(books, tenant, DECEMBER, time_zone="Europe/Paris").names == ("time_zone",)
    change(books, tenant, date(2027, 1, 15), buyer={"name": "Kunde SE"})
    with pytest.raises(InvalidRequest, match="Other terms are recorded from 2027-01-15 on"):
        change(books, tenant, date(2027, 1, 1), **TO_CHINA)


def test_each_seller_of_a_tenant_that_moved_invoices_its_own_month(
    books: Books, gateway: Gateway, tenant: UUID
) -> None:
    change(books, tenant, DECEMBER, **TO_CHINA)
    last = datetime(2026, 11, 30, 23, 59, tzinfo=ZoneInfo("Europe/Berlin"))
    for at in (last, last + timedelta(minutes=1)):
        gateway.uses(tenant, at, prompt=100 * MILLION)
        books.close_day(gateway, tenant, at.date())
    drafts = [books.draft(tenant, month, MUCH_LATER) for month in (MONTH, DECEMBER)]
    rows = [books.invoice(id) for id in drafts if id is not None]
    assert [(row.legal_entity_id, row.currency, row.period_from, row.period_until) for row in rows] == [
        ("xpulink-de", "EUR", last.date(), last.date()),
        ("xpulink-cn", "CNY", DECEMBER, DECEMBER),
    ]


def test_a_month_that_has_two_sellers_all_the_same_waits_and_says_why(
    books: Books, gateway: Gateway, tenant: UUID
) -> None:
    """Only the owner of the tables can bring that about."""
    with books.database.superuser() as connection:
        connection.execute("update tenant_billing set valid_until = %s", [DAY])
        connection.execute(
            "insert into tenant_billing (tenant_id, valid_from, legal_entity_id, currency, time_zone, buyer)"
            " select tenant_id, %s, 'xpulink-cn', 'CNY', time_zone, buyer from tenant_billing", [DAY],
        )  # fmt: skip
    for at in (NOON - timedelta(days=1), NOON):
        gateway.uses(tenant, at, prompt=MILLION)
        books.close_day(gateway, tenant, at.date())
    with pytest.raises(SeveralSellersInMonth, match=r"xpulink-cn.*xpulink-de"):
        books.draft(tenant, MONTH, LATER)
    with books.as_role("auditor") as session:  # what the check `every_request_is_answered` lists
        assert [(one.tenant_id, one.month) for one in invoice_requests.unanswered(session)] == [(tenant, MONTH)]


def test_a_draft_is_made_again_for_the_new_buyer_and_a_final_invoice_stands_in_the_way(
    books: Books, gateway: Gateway, tenant: UUID
) -> None:
    gateway.uses(tenant, NOON, prompt=100 * MILLION)
    books.close_day(gateway, tenant, DAY)
    first = books.draft(tenant, MONTH, LATER)
    assert first is not None
    assert change(books, tenant, MONTH, buyer={"name": "Kunde KG"}).dropped == (first,)
    with pytest.raises(DraftIsVoid):
        books.finalize(first, LATER)
    with books.as_role("worker") as session:
        (asked,) = invoice_requests.unanswered(session)
        second = draft.draft(session, asked.id, LATER)
    assert second is not None
    assert books.invoice(second).buyer["name"] == "Kunde KG"
    books.finalize(second, LATER)
    with pytest.raises(DaysAreInvoiced, match=r"XDE-2026-000001 bills until 2026-11-10.*--cancel"):
        change(books, tenant, MONTH, buyer={"name": "Kunde SE"})
    assert change(books, tenant, DAY + timedelta(days=1), payment_days=30).dropped == ()
    cancel(books, second)
    change(books, tenant, MONTH, buyer={"name": "Kunde SE"})
    third = draft_of(books, ask_again(books, second))
    assert (books.invoice(third).buyer["name"], books.invoice(third).net) == ("Kunde SE", books.invoice(second).net)


def test_nothing_becomes_final_that_could_not_be_published(books: Books, gateway: Gateway, tenant: UUID) -> None:
    with books.database.superuser() as connection:
        connection.execute("""update tenant_billing set buyer = buyer - 'vat_id' || '{"city": ""}'""")
    gateway.uses(tenant, NOON, prompt=100 * MILLION)
    books.close_day(gateway, tenant, DAY)
    first = books.draft(tenant, MONTH, LATER)
    assert first is not None
    words = r"its town and its postcode and its electronic address.*studio tenant terms kunde --from 2026-11-10 --city"
    with pytest.raises(BuyerIncomplete, match=words):
        books.finalize(first, LATER)
    assert books.invoice(first).state == "draft"
    change(books, tenant, MONTH, buyer={"city": "Hamburg", "postcode": "20095", "email": "ap@kunde.example"})
    with books.as_role("worker") as session:
        (asked,) = invoice_requests.unanswered(session)
        second = draft.draft(session, asked.id, LATER)
    assert second is not None
    assert books.finalize(second, LATER) == "XDE-2026-000001"
