"""What a payment is for, decided without guessing."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import payment_reference
from billing.payment_matching import Claim, Known, Money, decide, spread
from studio import ids

ACME, GLOBEX = ids.uuid7(), ids.uuid7()
NONE = Known((), {}, {})


def claim(number: str, open_amount: str, tenant: UUID = ACME, currency: str = "EUR", due: int = 1) -> Claim:
    return Claim(ids.uuid7(), tenant, (number,), currency, Decimal(open_amount), date(2026, 12, due), "Acme GmbH & Co.")


def money(amount: str, text: str, payer: str | None = None, account: str | None = None) -> Money:
    return Money(Decimal(amount), "EUR", payer, account, text)


FIRST, SECOND = claim("XDE-2026-000001", "119.00"), claim("XDE-2026-000002", "50.00", due=5)
REFERENCE = payment_reference.of_invoice("XDE-2026-000001")
BOTH = f"{REFERENCE} {payment_reference.of_invoice('XDE-2026-000002')}"
KNOWN = Known((FIRST, SECOND), {}, {})


@pytest.mark.parametrize(
    ("amount", "text", "parts"),
    [
        ("119.00", f"invoice {REFERENCE}", [("invoice", "119.00")]),
        ("100.00", REFERENCE, [("invoice", "100.00")]),
        ("120.00", REFERENCE, [("invoice", "119.00"), ("unapplied", "1.00")]),
        ("169.00", BOTH, [("invoice", "119.00"), ("invoice", "50.00")]),
        ("130.00", BOTH, [("invoice", "119.00"), ("invoice", "11.00")]),  # what is due first
    ],
)
def test_a_reference_pays_as_far_as_the_money_reaches(amount: str, text: str, parts: list[tuple[str, str]]) -> None:
    decision = decide(money(amount, text), KNOWN)
    assert [(part.target, str(part.amount)) for part in decision.parts] == parts


def test_a_tenants_own_reference_is_a_top_up() -> None:
    reference = payment_reference.of_tenant(ACME)
    known = Known((), {payment_reference.body(reference): ACME}, {})
    (part,) = decide(money("250.00", f"Guthaben {reference.lower()}"), known).parts
    assert (part.target, part.tenant_id, part.amount) == ("credit", ACME, Decimal("250.00"))


def test_a_number_pays_with_its_exact_amount_from_its_buyer_or_a_known_account() -> None:
    by_name = decide(money("119.00", "Rechnung XDE 2026/000001", payer="ACME GmbH &amp Co".replace("&amp", "&")), KNOWN)
    assert [part.invoice_id for part in by_name.parts] == [FIRST.invoice_id]
    known = Known(KNOWN.claims, {}, {ACME: {"DE1"}})
    assert decide(money("119.00", "XDE-2026-000001", payer="Group Treasury", account="DE1"), known).parts


@pytest.mark.parametrize(
    ("given_money", "known", "why"),
    [
        (money("119.00", "thank you"), KNOWN, "no reference that we know"),
        (money("119.00", payment_reference.of_invoice("OTHER-1")), NONE, "Nobody was given the reference"),
        (money("118.99", "XDE-2026-000001", payer="Acme GmbH & Co."), KNOWN, "119.00 is open"),
        (money("119.00", "XDE-2026-000001", payer="Somebody"), KNOWN, "not its buyer"),
        (money("119.00", "XDE-2026-0000012"), KNOWN, "no reference that we know"),
        (money("119.00", "RF71XDE2026000001"), KNOWN, "no reference that we know"),  # mistyped
        (money("1.00", REFERENCE), Known((claim("XDE-2026-000001", "1.00", currency="CNY"),), {}, {}), "in EUR"),
        (
            money("169.00", BOTH),
            Known((FIRST, claim("XDE-2026-000002", "50.00", GLOBEX)), {}, {}),
            "several tenants",
        ),
        (
            money("169.00", f"{REFERENCE} {payment_reference.of_tenant(ACME)}"),
            Known((FIRST,), {payment_reference.body(payment_reference.of_tenant(ACME)): ACME}, {}),
            "an invoice and of a top-up",
        ),
    ],
)
def test_everything_else_waits_and_says_why(given_money: Money, known: Known, why: str) -> None:
    decision = decide(given_money, known)
    assert decision.parts == ()
    assert why in decision.why


cents = st.integers(1, 10**9).map(lambda n: Decimal(n) / 100)


@given(cents, st.lists(st.integers(-(10**6), 10**6).map(lambda n: Decimal(n) / 100), min_size=1, max_size=6))
def test_no_cent_is_lost_and_no_invoice_paid_beyond_what_is_open(amount: Decimal, opens: list[Decimal]) -> None:
    claims = [claim(f"XDE-2026-{n:06d}", str(one)) for n, one in enumerate(opens, start=1)]
    parts = spread(amount, claims)
    assert sum(part.amount for part in parts) == amount
    assert all(part.amount > 0 for part in parts)
    left = {one.invoice_id: one.open for one in claims}
    for part in parts:
        if part.invoice_id is not None:
            assert part.amount <= left[part.invoice_id]
    if any(part.target == "unapplied" for part in parts):
        paid = sum(part.amount for part in parts if part.target == "invoice")
        assert paid == sum((one.open for one in claims if one.open > 0), Decimal(0))
