"""Postings: whatever is booked sums to zero, to the last of twelve decimals, and rounding is never dropped."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import postings
from billing.invoice import RatedTokens, compose
from billing.ledger import Account, Entry, Posting, Unbalanced
from billing.postings import REVENUE_OF_UNIT, Billed, BilledLine, Lot
from billing.rating import ADJUSTMENT_NAMES, UNIT_NAMES
from studio import ids
from studio.money import Currency, RoundingMode

DAY = date(2026, 11, 30)
TENANT = ids.uuid7()
prices = st.decimals(0, 1_000, places=6)
rated_tokens = st.builds(
    RatedTokens,
    rated_line_id=st.builds(ids.uuid7),
    variant_id=st.sampled_from(["a", "b"]),
    unit=st.sampled_from(list(UNIT_NAMES)),
    price_id=st.builds(ids.uuid7),
    per_million=prices,
    tokens=st.integers(1, 10**12),
)
cents = st.decimals("0.01", 10_000, places=2)
lots = st.lists(
    st.builds(
        Lot,
        id=st.builds(ids.uuid7),
        kind=st.sampled_from(["prepaid", "promotion"]),
        tenant_id=st.just(TENANT),
        legal_entity_id=st.just("de"),
        currency=st.just("EUR"),
        granted_on=st.dates(DAY - timedelta(days=9), DAY),
        expires_on=st.none() | st.dates(DAY, DAY + timedelta(days=9)),
        remaining=cents,
    ),
    max_size=6,
)


def billed(rated: list[RatedTokens], rate: Decimal, mode: RoundingMode = RoundingMode.HALF_UP) -> Billed:
    composed = compose(rated, Currency.EUR, rate, rounding=mode)
    lines = tuple(BilledLine(line.line_no, line.unit, line.exact, line.amount) for line in composed.lines)
    return Billed(
        "inv_1", TENANT, "de", "EUR", "S", rate, composed.tax.amount, composed.gross.amount, lines
    )  # fmt: skip


def total(posting: Posting | None, kind: str) -> Decimal:
    entries = posting.entries if posting else ()
    return sum((entry.amount for entry in entries if entry.account.kind == kind), Decimal(0))


@given(st.lists(rated_tokens, max_size=8), st.sampled_from([Decimal("0.1900"), Decimal("0.0600"), Decimal(0)]))
def test_any_invoice_balances_and_loses_nothing(rated: list[RatedTokens], rate: Decimal) -> None:
    one = billed(rated, rate)
    posting = postings.invoice(one, DAY, "finance")
    exact = sum((line.exact for line in one.lines), Decimal(0))
    assert (posting is None) == (exact == 0)
    assert total(posting, "receivable") == one.gross
    assert total(posting, "revenue") == -exact
    assert total(posting, "vat_payable") == -one.tax
    for entry in posting.entries if posting else ():
        if entry.account.kind == "rounding":
            line = next(line for line in one.lines if line.line_no == entry.line_no)
            assert entry.amount == line.exact - line.amount
            assert abs(entry.amount) <= Decimal("0.005")


def test_a_posting_that_is_off_by_the_last_decimal_is_refused() -> None:
    debit = Entry(Account("de", "bank", "EUR"), Decimal("1.000000000001"))
    credit = Entry(Account("de", "revenue", "EUR", detail="inference"), Decimal(-1))
    with pytest.raises(Unbalanced, match="off by 1E-12 EUR"):
        Posting("k", "invoice", TENANT, "inv_1", DAY, "test", "", (debit, credit))


def test_currencies_balance_each_for_itself() -> None:
    debit = Entry(Account("de", "bank", "EUR"), Decimal(1))
    credit = Entry(Account("de", "revenue", "CNY", detail="inference"), Decimal(-1))
    with pytest.raises(Unbalanced):
        Posting("k", "invoice", TENANT, "inv_1", DAY, "test", "", (debit, credit))


def test_two_companies_are_two_books() -> None:
    debit = Entry(Account("de", "bank", "EUR"), Decimal(1))
    credit = Entry(Account("cn", "revenue", "EUR", detail="inference"), Decimal(-1))
    with pytest.raises(ValueError, match="books of exactly one legal entity"):
        Posting("k", "invoice", TENANT, "inv_1", DAY, "test", "", (debit, credit))


def test_every_unit_of_an_invoice_has_its_revenue() -> None:
    assert set(REVENUE_OF_UNIT) == set(UNIT_NAMES | ADJUSTMENT_NAMES)


@given(lots, st.decimals(0, 20_000, places=2))
def test_credit_pays_what_is_due_and_no_more_gifts_first_then_what_expires_first(
    given_lots: list[Lot], due: Decimal
) -> None:
    taken = postings.spread(given_lots, due)
    assert sum((amount for _, amount in taken), Decimal(0)) == min(
        due, sum((lot.remaining for lot in given_lots), Decimal(0))
    )
    assert all(0 < amount <= lot.remaining for lot, amount in taken)
    assert all(amount == lot.remaining for lot, amount in taken[:-1])  # only the last one may be left with something
    untouched = [lot for lot in given_lots if lot.id not in {used.id for used, _ in taken}]
    for used, _ in taken:
        for lot in untouched:
            turns = [(one.kind == "prepaid", one.expires_on or date.max) for one in (used, lot)]
            assert turns == sorted(turns)


@given(lots.filter(bool))
def test_a_lot_that_is_granted_and_expires_leaves_nothing(given_lots: list[Lot]) -> None:
    for lot in given_lots:
        granted, expired = postings.grant(lot, "finance", "test"), postings.expire(lot, DAY, "calendar")
        assert total(granted, lot.kind) == -lot.remaining
        assert total(granted, lot.kind) + total(expired, lot.kind) == 0
        assert total(expired, "breakage") == (-lot.remaining if lot.kind == "prepaid" else 0)
