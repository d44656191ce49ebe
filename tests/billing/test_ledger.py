"""The ledger in the database: what is booked with an invoice, and what nobody can do to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy import func, select, text

from billing import approval, balances, booking, credit_lots, finalize, invoice_booking, ledger_days, postings
from billing.booking import BookedDifferently
from billing.chain import Break
from billing.ledger import Account, Entry, Posting
from billing.postings import LotKind
from studio import clock
from studio.db.invoices import Invoice
from studio.db.ledger import LedgerEntry, LedgerTransaction
from studio.errors import InvalidRequest
from studio.settings import DatabaseRole
from tests.billing.books import Books, Gateway
from tests.server import TestServer

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)
DAY = date(2026, 12, 1)


@pytest.fixture
def gateway(books: Books) -> Gateway:
    return books.gateway()


@pytest.fixture
def tenant(books: Books) -> UUID:
    return books.tenant()


@pytest.fixture
def final(books: Books, gateway: Gateway, tenant: UUID) -> UUID:
    """An invoice of 6.00 net; its two lines are exactly 4.00000014 and 1.9999996."""
    return books.final_invoice(gateway, tenant, NOON, LATER, prompt=200_000_007, completion=49_999_990)


def booked(books: Books) -> dict[str, Decimal]:
    """Balances by kind of account."""
    with books.as_role("auditor") as session:
        return {balance.kind: balance.amount for balance in balances.balances(session)}


def grant(books: Books, tenant: UUID, amount: str, kind: LotKind = "prepaid", expires_on: date | None = None) -> None:
    with books.as_role("operator") as session:
        credit_lots.grant(
            session, tenant_id=tenant, kind=kind, amount=Decimal(amount), expires_on=expires_on, by="key:xpu",
            reason="test", now=LATER,
        )  # fmt: skip


def left(books: Books, tenant: UUID) -> list[Decimal]:
    with books.as_role("auditor") as session:
        return [standing.lot.remaining for standing in credit_lots.lots_of(session, tenant)]


class TestInvoices:
    def test_a_final_invoice_is_booked_to_the_last_decimal(self, books: Books, final: UUID) -> None:
        assert booked(books) == {
            "receivable": Decimal("7.14"),
            "revenue": Decimal("-5.999999740000"),
            "vat_payable": Decimal("-1.14"),
            "rounding": Decimal("-0.000000260000"),
        }
        with books.as_role("auditor") as session:
            assert invoice_booking.unequal(session) == []
            (transaction,) = balances.transactions(session, tenant_id=None, subject=None, limit=9)
        assert (transaction.booked_on, transaction.booked_by) == (DAY, "finance")
        lines = [entry.line_no for entry in transaction.entries if entry.account == "rounding"]
        assert lines == [1, 2]

    def test_finalising_again_books_nothing_more(self, books: Books, final: UUID) -> None:
        before = booked(books)
        with books.as_role("worker") as session:
            approval_id = session.get_one(Invoice, final).approval_id
            assert approval_id is not None
            finalize.finalize(session, approval_id, LATER)
            assert invoice_booking.book_missing(session) == []
        assert booked(books) == before

    def test_a_draft_is_in_no_book(self, books: Books, gateway: Gateway, tenant: UUID) -> None:
        gateway.uses(tenant, NOON, prompt=200_000_000)
        books.close_day(gateway, tenant, NOON.date())
        books.draft(tenant, date(2026, 11, 1), LATER)
        assert booked(books) == {}

    def test_what_fails_after_booking_leaves_nothing(self, books: Books, gateway: Gateway, tenant: UUID) -> None:
        gateway.uses(tenant, NOON, prompt=200_000_000)
        books.close_day(gateway, tenant, NOON.date())
        invoice_id = books.draft(tenant, date(2026, 11, 1), LATER)
        assert invoice_id is not None
        with books.as_role("operator") as session:
            approved = approval.approve(
                session, invoice_id=invoice_id, expected_gross=Decimal("4.76"), by="finance", now=LATER
            )
        with books.as_role("worker") as session:
            finalize.finalize(session, approved, LATER)
            session.rollback()  # the worker is killed before its commit
        assert (booked(books), books.invoice(invoice_id).state) == ({}, "draft")

    def test_invoices_from_before_the_ledger_are_found_and_booked_once(self, books: Books, final: UUID) -> None:
        with books.database.superuser() as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("delete from ledger_entries")
            connection.execute("delete from ledger_transactions")
        with books.as_role("auditor") as session:
            (unequal,) = invoice_booking.unequal(session)
        assert (unequal.number, unequal.receivable, unequal.tax) == ("XDE-2026-000001", "7.14 / 0", "1.14 / 0")
        with books.as_role("worker") as session:
            assert invoice_booking.book_missing(session) == ["XDE-2026-000001"]
            assert invoice_booking.book_missing(session) == []
            assert invoice_booking.unequal(session) == []

    def test_a_ledger_that_says_something_else_than_its_invoices_is_shown(self, books: Books, final: UUID) -> None:
        for forgery in (
            "update ledger_entries set amount = amount + sign(amount) * 0.01",
            "update ledger_transactions set subject = 'inv_0'",
            "delete from ledger_entries where n > 1",
            "update ledger_accounts set kind = 'breakage' where kind = 'vat_payable'",
        ):
            with books.forging() as session:
                session.execute(text(forgery))
                assert invoice_booking.unequal(session), forgery


class TestCredit:
    def test_an_invoice_is_paid_from_what_expires_first(self, books: Books, gateway: Gateway, tenant: UUID) -> None:
        grant(books, tenant, "5.00")
        grant(books, tenant, "3.00", "promotion", DAY + timedelta(days=30))
        books.final_invoice(gateway, tenant, NOON, LATER, prompt=200_000_000)
        assert left(books, tenant) == [Decimal("3.24"), Decimal("0.00")]
        invoice = books.only_invoice()
        assert (invoice.gross, invoice.prepaid) == (Decimal("4.76"), Decimal("4.76"))
        assert booked(books)["receivable"] == 0
        with books.as_role("auditor") as session:
            assert invoice_booking.unequal(session) == []

    def test_credit_that_does_not_reach_leaves_the_rest_to_be_paid(
        self, books: Books, gateway: Gateway, tenant: UUID
    ) -> None:
        grant(books, tenant, "1.00")
        books.final_invoice(gateway, tenant, NOON, LATER, prompt=200_000_000)
        assert (books.only_invoice().prepaid, booked(books)["receivable"]) == (Decimal("1.00"), Decimal("3.76"))

    def test_another_tenants_credit_pays_nothing(self, books: Books, gateway: Gateway, tenant: UUID) -> None:
        grant(books, books.tenant("other"), "9.00")
        books.final_invoice(gateway, tenant, NOON, LATER, prompt=200_000_000)
        assert books.only_invoice().prepaid == 0

    def test_the_last_day_counts_and_the_day_after_it_expires_once(
        self, books: Books, gateway: Gateway, tenant: UUID
    ) -> None:
        grant(books, tenant, "1.00", "prepaid", DAY)
        grant(books, tenant, "2.00", "promotion", DAY)
        with books.as_role("worker") as session:
            assert credit_lots.expire(session, LATER) == []
        for expired in (2, 0):
            with books.as_role("worker") as session:
                assert len(credit_lots.expire(session, LATER + timedelta(days=1))) == expired
        assert left(books, tenant) == [0, 0]
        balance = booked(books)
        assert [balance[kind] for kind in ("breakage", "promotion_cost", "bank")] == [-1, 0, 1]
        books.final_invoice(gateway, tenant, NOON, LATER + timedelta(days=2), prompt=200_000_000)
        assert books.only_invoice().prepaid == 0

    def test_racing_invoices_spend_a_lot_once(self, books: Books, gateway: Gateway, tenant: UUID) -> None:
        approvals = []
        for month in (9, 10, 11):
            at = NOON.replace(month=month)
            gateway.uses(tenant, at, prompt=200_000_000)
            books.close_day(gateway, tenant, at.date())
            invoice_id = books.draft(tenant, at.date().replace(day=1), LATER)
            assert invoice_id is not None
            with books.as_role("operator") as session:
                gross = books.invoice(invoice_id).gross
                approvals.append(
                    approval.approve(session, invoice_id=invoice_id, expected_gross=gross, by="finance", now=LATER)
                )
        grant(books, tenant, "6.00")

        def carry_out(approved: UUID) -> None:
            with books.as_role("worker") as session:
                finalize.finalize(session, approved, LATER)

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(carry_out, approvals))
        with books.as_role("auditor") as session:
            used = session.scalars(select(Invoice.prepaid).order_by(Invoice.prepaid)).all()
        assert used == [Decimal("0.00"), Decimal("1.24"), Decimal("4.76")]
        assert left(books, tenant) == [0]

    @pytest.mark.parametrize("amount", ["0", "-1.00", "1.001"])
    def test_an_amount_that_is_none_is_refused(self, books: Books, tenant: UUID, amount: str) -> None:
        with pytest.raises(InvalidRequest, match="no amount of credit"):
            grant(books, tenant, amount)


def posting(tenant: UUID, key: str = "k", amount: str = "1", subject: str = "inv_1") -> Posting:
    sides = (
        Entry(Account("xpulink-de", "bank", "EUR"), Decimal(amount)),
        Entry(Account("xpulink-de", "breakage", "EUR"), -Decimal(amount)),
    )
    return Posting(key, "invoice", tenant, subject, DAY, "test", "test", sides)


class TestBooking:
    def test_a_key_is_booked_once_by_whoever_tries(self, books: Books, tenant: UUID) -> None:
        def book(_: int) -> UUID:
            with books.as_role("worker") as session:
                return booking.post(session, posting(tenant))

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(book, range(8)))) == 1
        assert booked(books) == {"bank": 1, "breakage": -1}

    @pytest.mark.parametrize("change", [{"amount": "2"}, {"subject": "inv_2"}])
    def test_a_key_with_other_content_is_refused(self, books: Books, tenant: UUID, change: dict[str, str]) -> None:
        with books.as_role("worker") as session:
            booking.post(session, posting(tenant))
        with books.as_role("worker") as session, pytest.raises(BookedDifferently, match="was booked on 2026-12-01"):
            booking.post(session, posting(tenant, **change))

    def test_a_transaction_of_thousands_of_entries_is_one_statement(self, books: Books, tenant: UUID) -> None:
        bank = Account("xpulink-de", "bank", "EUR")
        sides = tuple(Entry(bank, Decimal(1 if n % 2 else -1)) for n in range(20_000))
        with books.as_role("worker") as session:
            booking.post(session, Posting("many", "invoice", tenant, "inv_1", DAY, "test", "test", sides))
        with books.as_role("auditor") as session:
            assert session.scalar(select(func.count()).select_from(LedgerEntry)) == 20_000


HEAD = (
    "insert into ledger_transactions (id, key, kind, legal_entity_id, tenant_id, subject, booked_on, booked_by,"
    " description, entries) select '00000000-0000-7000-8000-000000000001', 'attack', 'invoice', 'xpulink-de', id, '',"
    " '2026-12-01', 'me', '', 2 from tenants"
)
ACCOUNTS = (
    "insert into ledger_accounts (id, legal_entity_id, kind, currency, detail) values"
    " ('00000000-0000-7000-8000-00000000000a', 'xpulink-de', 'bank', 'EUR', ''),"
    " ('00000000-0000-7000-8000-00000000000b', 'xpulink-de', 'breakage', 'EUR', ''),"
    " ('00000000-0000-7000-8000-00000000000c', 'xpulink-de', 'bank', 'CNY', ''),"
    " ('00000000-0000-7000-8000-00000000000d', 'xpulink-cn', 'bank', 'EUR', '')"
)


def entries(*sides: tuple[int, str, str, str]) -> str:
    """An insert of sides: n, last digit of the account, currency, amount."""
    rows = ", ".join(
        f"('00000000-0000-7000-8000-000000000001', {n}, '00000000-0000-7000-8000-00000000000{account}',"
        f" 'xpulink-de', '{currency}', {amount})"
        for n, account, currency, amount in sides
    )
    return (
        "insert into ledger_entries (transaction_id, n, account_id, legal_entity_id, currency, amount)"
        f" values {rows}"
    )  # fmt: skip


BALANCED = entries((1, "a", "EUR", "1"), (2, "b", "EUR", "-1"))


class TestAttacks:
    """Everything that the application's roles could try with plain SQL."""

    @pytest.mark.parametrize(
        ("statements", "words"),
        [
            ([HEAD], "has no entries"),
            ([HEAD, entries((1, "a", "EUR", "1"), (2, "b", "EUR", "-0.999999999999"))], "is off by"),
            ([HEAD, entries((1, "a", "EUR", "1")), entries((2, "b", "EUR", "-1"))], "is off by"),
            ([HEAD, entries((1, "a", "EUR", "1"), (2, "a", "EUR", "-1"), (3, "b", "EUR", "1"))], "is off by"),
            ([HEAD, entries((2, "a", "EUR", "1"), (3, "b", "EUR", "-1"))], "in one statement"),
            ([HEAD, BALANCED, entries((3, "a", "EUR", "1"), (4, "b", "EUR", "-1"))], "in one statement"),
            (
                [HEAD, BALANCED, "set constraints all immediate", entries((3, "a", "EUR", "1"))],
                "is off by",
            ),
            ([HEAD, entries((1, "a", "EUR", "1"), (2, "c", "CNY", "-1"))], "is off by"),
            ([HEAD, entries((1, "a", "EUR", "1"), (2, "c", "EUR", "-1"))], "foreign key"),
            ([HEAD, entries((1, "a", "EUR", "1"), (2, "d", "EUR", "-1"))], "foreign key"),
            ([HEAD, entries((1, "a", "EUR", "0"), (2, "b", "EUR", "0"))], "moves_something"),
            ([HEAD, BALANCED, "update ledger_entries set amount = 2 * amount"], "permission denied"),
            ([HEAD, BALANCED, "delete from ledger_entries"], "permission denied"),
            ([HEAD, BALANCED, "update ledger_transactions set key = 'x'"], "permission denied"),
            ([HEAD, BALANCED, "truncate ledger_entries"], "permission denied"),
            (["alter table ledger_entries disable trigger all"], "must be owner"),
            (["set session_replication_role = replica"], "permission denied"),
        ],
    )
    @pytest.mark.parametrize("role", ["worker", "operator"])
    def test_are_refused(self, attacked: Books, role: DatabaseRole, statements: list[str], words: str) -> None:
        url = attacked.database.url(role).replace("+psycopg", "")
        with closing(psycopg.connect(url)) as connection, pytest.raises(psycopg.Error, match=words):
            commit(connection, statements)

    def test_the_same_with_two_sides_that_balance_is_booked(self, attacked: Books) -> None:
        with psycopg.connect(attacked.database.url("worker").replace("+psycopg", "")) as connection:
            connection.execute(HEAD.encode())
            connection.execute(BALANCED.encode())
            connection.execute("set constraints all immediate")
            connection.rollback()

    @pytest.mark.parametrize("table", ["ledger_entries", "ledger_transactions", "ledger_accounts", "credit_lots"])
    def test_the_owner_of_the_tables_is_refused_too_until_a_trigger_is_switched_off(
        self, attacked: Books, table: str
    ) -> None:
        with attacked.database.superuser() as connection, pytest.raises(psycopg.Error, match="append-only"):
            connection.execute(f"truncate {table} cascade".encode())


@pytest.fixture(scope="module")
def attacked(server: TestServer) -> Iterator[Books]:
    """One database for all attacks: none of them changes it."""
    books = Books(server.database())
    books.open()
    books.tenant()
    with books.as_role("worker") as session:
        session.execute(text(ACCOUNTS))
    yield books
    books.close()


def commit(connection: psycopg.Connection, statements: list[str]) -> None:
    for statement in statements:
        connection.execute(statement.encode())
    connection.commit()


class TestDays:
    """Closing days uses the real clock: what is booked bears today's stamp, and tomorrow today is over."""

    @pytest.fixture
    def closed(self, books: Books, final: UUID) -> date:
        """Today, closed as it will be tomorrow."""
        with books.as_role("worker") as session:
            assert ledger_days.close_days(session, clock.now()) == []  # it is not over
            (link,) = ledger_days.close_days(session, clock.now() + timedelta(days=1))
        assert link.transactions == 1
        return link.day

    def test_a_closed_day_holds_and_its_head_is_what_is_kept(self, books: Books, closed: date) -> None:
        with books.as_role("auditor") as session:
            said = ledger_days.verify(session, {})
            assert (said.days, said.transactions, said.broken) == (1, 1, None)
            assert ledger_days.verify(session, {closed: said.head}).broken is None
            assert ledger_days.verify(session, {closed: "0" * 64}).broken == Break(
                closed, "its link is not the one that was copied when it was closed"
            )

    def test_an_owner_who_switches_triggers_off_is_found_out(self, books: Books, closed: date) -> None:
        for forgery, why in (
            ("update ledger_entries set amount = amount * 2", "a transaction, an entry or an account was changed"),
            ("update ledger_accounts set detail = 'x'", "a transaction, an entry or an account was changed"),
            ("delete from ledger_transactions", "1 transactions were closed, 0 are there"),
            ("update ledger_transactions set recorded_on = recorded_on + 1", "1 transactions were closed, 0 are there"),
            ("update ledger_days set previous_sha256 = ''", "its link does not follow from the day before"),
        ):
            with books.forging() as session:
                session.execute(text(forgery))
                assert ledger_days.verify(session, {}).broken == Break(closed, why), forgery

    def test_nothing_is_booked_on_a_closed_day(self, books: Books, tenant: UUID, closed: date) -> None:
        with books.as_role("worker") as session, pytest.raises(Exception, match="is closed: is the clock right"):
            booking.post(session, posting(tenant))

    def test_closing_waits_for_what_is_being_booked(self, books: Books, tenant: UUID) -> None:
        def close() -> int:
            with books.as_role("operator") as _, books.as_role("worker") as session:
                (link,) = ledger_days.close_days(session, clock.now() + timedelta(days=1))
                return link.transactions

        with ThreadPoolExecutor(1) as threads:
            with books.as_role("worker") as session:
                booking.post(session, posting(tenant))
                closing = threads.submit(close)
                assert waits_for_a_lock(books)
            assert closing.result() == 1

    def test_the_application_cannot_choose_the_stamp(self, books: Books, tenant: UUID) -> None:
        with books.as_role("worker") as session:
            booking.post(session, posting(tenant))
            session.flush()
            stamps = select(LedgerTransaction.recorded_at, LedgerTransaction.recorded_on)
            recorded_at, recorded_on = session.execute(stamps).one()
        assert abs(recorded_at - clock.now()) < timedelta(minutes=1)
        assert recorded_on == recorded_at.date()


def waits_for_a_lock(books: Books) -> bool:
    """Whether somebody comes to wait for an advisory lock within some seconds."""
    with books.database.superuser() as connection:
        for _ in range(400):
            query = "select 1 from pg_locks where locktype = 'advisory' and not granted"
            if connection.execute(query).fetchone() is not None:
                return True
            connection.execute("select pg_sleep(0.02)")
    return False


def test_the_credit_of_a_lot_is_under_its_own_account(books: Books, tenant: UUID) -> None:
    grant(books, tenant, "1.00")
    with books.as_role("auditor") as session:
        (standing,) = credit_lots.lots_of(session, tenant)
    assert postings.grant(standing.lot, "x", "y").entries[0].account == standing.lot.account
