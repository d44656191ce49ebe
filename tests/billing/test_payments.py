"""Money in: booked once, matched to what it pays, taken back when the bank takes it back; the ledger says the same."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from billing import (
    balances,
    credit_lots,
    payment_import,
    payment_orders,
    payment_queue,
    payment_reference,
    payments,
    receivables,
    write_offs,
)
from billing.bank_statement import StatementUnreadable
from billing.equal_transfers import EqualTransfers, Said
from billing.four_eyes import PersonNeeded
from billing.payment_import import Imported
from billing.payment_matching import Part
from billing.payments import MoreThanPaid, NewPayment
from billing.receivables import Standing
from studio.db.payments import Payment
from studio.errors import InvalidRequest, PermissionDenied
from tests.billing import statements
from tests.billing.books import Books
from tests.billing.statements import OURS, Line
from tests.billing.test_corrections import make_final

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
ISSUED = datetime(2026, 12, 1, 9, tzinfo=UTC)
NOW = datetime(2026, 12, 4, 9, tzinfo=UTC)
TODAY = NOW.date()
ZERO = Decimal(0)


@pytest.fixture
def tenant(books: Books) -> UUID:
    return books.tenant()


@pytest.fixture
def invoice(books: Books, tenant: UUID) -> Standing:
    """Final: 119.00 EUR."""
    invoice_id = books.final_invoice(books.gateway(), tenant, NOON, ISSUED, prompt=5_000_000_000)
    return standing(books, invoice_id)


@pytest.fixture(autouse=True)
def payments_are_the_ledgers(books: Books) -> Iterator[None]:
    """Whatever a test does: afterwards payments, matches and ledger say the same."""
    yield
    with books.as_role("auditor") as session:
        assert payment_queue.differences(session) == []
        assert balances.imbalances(session) == []


def standing(books: Books, invoice_id: UUID) -> Standing:
    with books.as_role("auditor") as session:
        found = receivables.standing(session, invoice_id)
    assert found is not None
    return found


def imports(books: Books, body: bytes, now: datetime = NOW, equal: Said | None = None) -> Imported:
    with books.as_role("worker") as session:
        return payment_import.import_statement(session, body, "statement", "finance", now, equal)


def reference(invoice: Standing) -> str:
    return payment_reference.of_invoice(invoice.number)


def listed(books: Books) -> list[payment_queue.Listed]:
    with books.as_role("auditor") as session:
        return payment_queue.payments(session)


def account(books: Books, kind: str) -> Decimal:
    with books.as_role("auditor") as session:
        return sum((one.amount for one in balances.balances(session) if one.kind == kind), Decimal(0))


def test_a_transfer_pays_its_invoice_and_the_same_file_again_books_nothing(books: Books, invoice: Standing) -> None:
    assert (str(invoice.state(TODAY)), invoice.due_on) == ("open", date(2026, 12, 15))
    assert invoice.state(date(2026, 12, 16)) == "overdue"
    body = statements.camt(Line(str(invoice.gross), f"invoice {reference(invoice)}", reference="1"))
    first, again = imports(books, body), imports(books, body)
    assert (first.booked, first.matched, again.booked, again.is_repeated) == (1, 1, 0, True)
    paid = standing(books, invoice.invoice_id)
    assert (paid.open, paid.paid, str(paid.state(date(2027, 1, 1)))) == (ZERO, invoice.gross, "paid")
    assert (account(books, "bank"), account(books, "clearing")) == (invoice.gross, ZERO)


def test_statements_that_overlap_book_each_entry_once_whatever_their_format(books: Books, invoice: Standing) -> None:
    lines = [Line("10.00", reference(invoice), reference=str(n)) for n in range(3)]
    imports(books, statements.camt(*lines[:2]))
    overlapping = imports(books, statements.camt(*lines[1:], version="02"))
    assert (overlapping.booked, overlapping.known) == (1, 1)
    as_csv = imports(books, statements.csv(*lines))
    assert (as_csv.booked, as_csv.known) == (0, 3)
    assert standing(books, invoice.invoice_id).paid == 30


def test_a_transfer_that_looks_like_a_booked_one_waits_for_a_person(books: Books, invoice: Standing) -> None:
    rent, other = Line("10.00", reference(invoice)), Line("7.00", "thanks")
    imports(books, statements.camt(rent, Line("1.00", "first")))
    evening = statements.camt(rent, other)  # the 1.00 of that day is not in it, so it may be another 10.00
    with pytest.raises(EqualTransfers, match=r"1 transfers .* such as 10\.00 EUR of Kunde AG on 2026-12-03"):
        imports(books, evening)
    assert (len(listed(books)), account(books, "bank")) == (2, Decimal("11.00"))  # nothing of the file
    told = imports(books, evening, equal="another")
    assert (told.booked, told.known, account(books, "bank")) == (2, 0, Decimal("28.00"))
    assert standing(books, invoice.invoice_id).paid == 20
    assert imports(books, evening).is_repeated
    night = statements.camt(rent, Line("3.00", "night"))
    assert (imports(books, night, equal="same").booked, account(books, "bank")) == (1, Decimal("31.00"))
    whole_day = statements.csv(rent, rent, Line("1.00", "first"), other, Line("3.00", "night"))
    again = imports(books, whole_day)  # it tells all of the day again: nobody is asked
    assert (again.booked, again.known) == (0, 5)


def test_two_imports_at_once_book_once(books: Books, invoice: Standing) -> None:
    line = Line("10.00", reference(invoice), reference="1")
    bodies = [statements.camt(line, version="02"), statements.camt(line, version="08")]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda body: imports(books, body), bodies * 2))
    assert sum(one.booked for one in done) == 1
    assert standing(books, invoice.invoice_id).paid == 10


def test_in_parts_then_too_much_and_what_is_over_stays_the_tenants(books: Books, invoice: Standing) -> None:
    imports(books, statements.camt(Line("1.00", reference(invoice), reference="1")))
    assert standing(books, invoice.invoice_id).state(TODAY) == "partly_paid"
    imports(books, statements.camt(Line(str(invoice.gross), reference(invoice), reference="2")))
    paid = standing(books, invoice.invoice_id)
    assert (paid.open, paid.paid) == (ZERO, invoice.gross)
    assert account(books, "unapplied") == -1
    (over, _) = listed(books)
    assert (over.unmatched, over.invoices) == (ZERO, (invoice.number,))


def test_the_tenants_own_reference_becomes_credit(books: Books, tenant: UUID) -> None:
    done = imports(books, statements.camt(Line("250.00", payment_reference.of_tenant(tenant))))
    assert done.matched == 1
    with books.as_role("auditor") as session:
        (lot,) = credit_lots.lots_of(session, tenant)
    assert (str(lot.lot.kind), lot.lot.remaining) == ("prepaid", Decimal(250))


def test_what_nobody_recognises_waits_and_a_person_says_what_it_is(
    books: Books, tenant: UUID, invoice: Standing
) -> None:
    done = imports(books, statements.csv(Line("5.00", "thank you")))
    assert (done.booked, done.matched, account(books, "clearing")) == (1, 0, Decimal(-5))
    with books.as_role("operator") as session:
        (waiting,) = payment_queue.waiting(session)
        payments.take_turns(session)
        payment = payments.find(session, waiting.id)
        with pytest.raises(MoreThanPaid, match=r"1\.00 EUR short"):
            payments.match(session, payment, [Part("unapplied", tenant, Decimal("6.00"))], "ops", "asked", NOW)
        payments.match(session, payment, [Part("unapplied", tenant, Decimal("5.00"))], "ops", "asked", NOW)
    with books.as_role("operator") as session:  # later, what lies there is used
        payment = payments.find(session, waiting.id)
        part = Part("invoice", tenant, Decimal("5.00"), invoice.invoice_id)
        payments.match(session, payment, [part], "ops", "asked", NOW)
    assert standing(books, invoice.invoice_id).paid == 5
    with books.as_role("operator") as session:
        assert payments.unmatch(session, payments.find(session, waiting.id), "ops", "wrong one", NOW) == 5
    assert (standing(books, invoice.invoice_id).paid, account(books, "clearing")) == (ZERO, Decimal(-5))
    with books.as_role("worker") as session:  # a person has looked at it: nothing matches it by itself
        assert payment_import.match_waiting(session, "dagster", NOW) == []


def test_money_that_comes_before_its_invoice_is_matched_when_that_is_final(books: Books, tenant: UUID) -> None:
    imports(books, statements.camt(Line("1.00", payment_reference.of_invoice("XDE-2026-000001"))))
    invoice_id = books.final_invoice(books.gateway(), tenant, NOON, ISSUED, prompt=5_000_000_000)
    with books.as_role("worker") as session:
        assert len(payment_import.match_waiting(session, "dagster", NOW)) == 1
    assert standing(books, invoice_id).paid == 1


@pytest.mark.parametrize("how", ["the same end-to-end id", "the same text"])
def test_a_transfer_that_the_bank_takes_back_opens_the_invoice_again(books: Books, invoice: Standing, how: str) -> None:
    end_to_end = "E2E-7" if how == "the same end-to-end id" else "NOTPROVIDED"
    paid = Line(str(invoice.gross + 3), reference(invoice), reference="1", end_to_end=end_to_end)
    back = Line(
        f"-{invoice.gross + 3}", reference(invoice), "2026-12-04", reference="2", end_to_end=end_to_end, is_return=True
    )
    done = imports(books, statements.camt(back, paid))
    assert (done.booked, done.matched) == (2, 2)
    open_again = standing(books, invoice.invoice_id)
    assert (open_again.open, open_again.paid) == (invoice.gross, ZERO)
    assert open_again.state(TODAY) == "open"
    assert [account(books, kind) for kind in ("bank", "clearing", "unapplied")] == [0, 0, 0]


def test_other_money_that_leaves_is_not_ours_to_book(books: Books) -> None:
    done = imports(books, statements.camt(Line("-900.00", "rent")))
    assert (done.entries, done.booked, done.ignored) == (1, 0, 1)


def test_a_file_of_another_account_or_currency_books_nothing(books: Books, invoice: Standing) -> None:
    with pytest.raises(StatementUnreadable, match="belongs to no legal entity"):
        imports(books, statements.camt(Line("1.00"), account="DE75512108001245126199"))
    with pytest.raises(StatementUnreadable, match="USD"):
        imports(books, statements.camt(Line("1.00", reference(invoice)), Line("1.00", currency="USD")))
    assert listed(books) == []
    imports(books, statements.camt(Line("1.00", reference(invoice), currency="CNY")))
    with books.as_role("operator") as session:
        (waiting,) = payment_queue.waiting(session)
        payment = payments.find(session, waiting.id)
        part = Part("invoice", invoice.tenant_id, Decimal("1.00"), invoice.invoice_id)
        with pytest.raises(InvalidRequest, match="Nothing is converted"):
            payments.match(session, payment, [part], "ops", "asked", NOW)


def outgoing(amount: str, key: str) -> NewPayment:
    return NewPayment("xpulink-de", "EUR", Decimal(amount), OURS, "manual", f"manual:{key}", TODAY)


def test_no_more_is_refunded_than_was_paid(books: Books, invoice: Standing) -> None:
    imports(books, statements.camt(Line("10.00", reference(invoice))))
    (paid,) = listed(books)

    def refund(amount: str, key: str) -> None:
        with books.as_role("operator") as session:
            payments.take_turns(session)
            original, sent = payments.find(session, paid.id), payments.record(session, outgoing(amount, key), "ops")
            assert sent is not None
            payments.take_back(session, sent, original, "ops", "refund", NOW)

    refund("-4.00", "1")
    with pytest.raises(MoreThanPaid, match=r"6\.01 EUR is more than the 6\.00"):
        refund("-6.01", "2")
    refund("-6.00", "3")
    assert standing(books, invoice.invoice_id).paid == 0
    assert account(books, "bank") == 0


def test_a_credit_note_on_a_paid_invoice_is_owed_and_paid_out_once(books: Books, invoice: Standing) -> None:
    imports(books, statements.camt(Line("119.00", reference(invoice))))
    make_final(books, invoice.invoice_id, _1="10.00")
    owed = standing(books, invoice.invoice_id)
    assert (owed.open, owed.corrected) == (Decimal("-11.90"), Decimal("-11.90"))
    assert owed.state(TODAY) == "overpaid"

    def pay_out(amount: str, key: str) -> Payment:
        order = payment_orders.Order(key, OURS, TODAY, "ops", "credit note")
        with books.as_role("operator") as session:
            return payment_orders.pay_out(session, order, invoice.invoice_id, Decimal(amount), NOW)

    with pytest.raises(MoreThanPaid, match=r"we owe 11\.90 EUR, not 11\.91"):
        pay_out("11.91", "1")
    assert pay_out("11.90", "2").id == pay_out("11.90", "2").id
    with pytest.raises(MoreThanPaid, match=r"we owe 0\.00"):
        pay_out("0.01", "3")
    settled = standing(books, invoice.invoice_id)
    assert (settled.open, settled.paid) == (ZERO, Decimal("107.10"))
    assert settled.state(TODAY) == "paid"


def test_a_top_up_that_is_returned_after_use_is_owed(books: Books, tenant: UUID) -> None:
    top_up = Line("100.00", payment_reference.of_tenant(tenant), reference="1")
    imports(books, statements.camt(top_up))
    invoice_id = books.final_invoice(books.gateway(), tenant, NOON, ISSUED, prompt=5_000_000_000)
    used = standing(books, invoice_id).credit
    assert used > 0
    back = Line("-100.00", top_up.text, reference="2", is_return=True)
    imports(books, statements.camt(back))
    with books.as_role("auditor") as session:
        (lot,) = credit_lots.lots_of(session, tenant)
    assert lot.lot.remaining == 0
    assert account(books, "unapplied") == used


def test_the_database_refuses_what_the_application_would_not_do(books: Books, invoice: Standing) -> None:
    imports(books, statements.camt(Line("10.00", reference(invoice))))
    own = "payment_id, target, tenant_id, invoice_id"
    copy = (
        f"insert into payment_matches ({own}, amount, reverses_id, matched_by, reason, booked_on, transaction_id)"
        f" select {own}, {{amount}}, {{reverses}}, 'x', 'x', booked_on, transaction_id from payment_matches"
    )
    for amount, reverses, words in (
        ("0.01", "null", "would be matched with 10.01"),
        ("-10.01", "null", "would be matched with -0.01"),
        ("-10.00 + 0.01", "id", "uq_payment_matches_transaction_id"),  # would fit, but has no posting of its own
        ("0.01 - 10", "null", "uq_payment_matches_transaction_id"),
    ):
        with pytest.raises(IntegrityError, match=words), books.as_role("operator") as session:
            session.execute(text(copy.format(amount=amount, reverses=reverses)))


def test_a_person_with_a_new_address_is_no_second_person_and_keys_count_only_where_they_may(
    books: Books, invoice: Standing
) -> None:
    anna, moved, bert = (f"oidc:https://id.example#{who}" for who in ("anna (a@old)", "anna (a@new)", "bert (b@new)"))
    with books.as_role("operator") as session:
        proposed = [
            write_offs.propose(session, invoice.invoice_id, Decimal("1.00"), by, "insolvent", NOW)
            for by in (anna, "xpu_key")
        ]
    with pytest.raises(PermissionDenied, match="another person"), books.as_role("operator") as session:
        write_offs.approve(session, proposed[0], moved, NOW)
    decision = {"write_off": proposed[0], "by": anna, "second": moved}
    with pytest.raises(IntegrityError, match="two_persons"), books.as_role("operator") as session:
        session.execute(
            text(
                "insert into write_off_decisions (write_off_id, proposed_by, is_approved, decided_by, transaction_id)"
                " select :write_off, :by, true, :second, id from ledger_transactions limit 1"
            ),
            decision,
        )
    with books.database.superuser() as connection:
        connection.execute("update legal_entities set four_eyes_by = 'people'")
    for write_off, by in ((proposed[0], "xpu_other"), (proposed[1], bert)):
        with pytest.raises(PersonNeeded), books.as_role("operator") as session:
            write_offs.approve(session, write_off, by, NOW)
    with books.as_role("operator") as session:
        write_offs.approve(session, proposed[0], bert, NOW)
    assert standing(books, invoice.invoice_id).open == Decimal("118.00")


def test_a_payment_recorded_under_a_key_again_is_the_same_or_refused(books: Books) -> None:
    with books.as_role("operator") as session:
        assert payments.record(session, outgoing("5.00", "k"), "ops") is not None
        assert payments.record(session, outgoing("5.00", "k"), "ops") is None
        with pytest.raises(payments.RecordedDifferently, match=r"recorded as 5\.00"):
            payments.record(session, outgoing("6.00", "k"), "ops")
        assert session.query(Payment).count() == 1


def test_the_month_in_the_finance_guide(books: Books, invoice: Standing) -> None:
    text = reference(invoice)

    def on(day: int, line: Line | None = None, assigned: bool = False) -> tuple[object, ...]:
        """What happens on a day of December, and bank, clearing, receivable, unapplied and state after it."""
        now = NOW.replace(day=day)
        if line is not None:
            imports(books, statements.camt(line), now)
        if assigned:
            thanks = next(one for one in listed(books) if one.amount == 30)
            with books.as_role("operator") as session:
                payment_orders.assign(
                    session, thanks.id, amounts={invoice.invoice_id: None}, rest_to=invoice.tenant_id, is_top_up=False,
                    by="finance", reason="called them", now=now,
                )  # fmt: skip
        accounts = [int(account(books, kind)) for kind in ("bank", "clearing", "receivable", "unapplied")]
        return *accounts, standing(books, invoice.invoice_id).state(now.date())

    assert on(1) == (0, 0, 119, 0, "open")
    assert on(3, Line("100.00", text, reference="1")) == (100, 0, 19, 0, "partly_paid")
    assert on(4, Line("30.00", "thank you", reference="2")) == (130, -30, 19, 0, "partly_paid")
    assert on(7, assigned=True) == (130, 0, 0, -11, "paid")
    assert on(9, Line("-100.00", text, "2026-12-09", reference="3", is_return=True)) == (30, 0, 100, -11, "partly_paid")
    assert on(16) == (30, 0, 100, -11, "overdue")
    assert on(21, Line("89.00", text, "2026-12-21", reference="4"), assigned=True) == (119, 0, 0, 0, "paid")
