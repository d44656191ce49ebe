"""A re-rating's difference of a final month becomes corrections, once, by two persons."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from billing import (
    approval,
    balances,
    correction_order,
    invoice_booking,
    open_invoices,
    price_book,
    price_changes,
    rerate_order,
    review,
)
from billing.correction import CorrectionType
from billing.correction_finalize import CorrectionOutdated, drop_if_outdated, finalize_correction
from billing.correction_paper import correction_paper
from billing.documents import frozen_rows, pdf
from billing.four_eyes import ReviewMissing, SamePerson
from billing.invoice import Line
from billing.price_changes import Corrected, NotForAMachine
from billing.rerate_order import DraftWaits, NothingToCorrect
from billing.review import NotADraft
from studio import ids
from studio.db.corrections import Correction
from studio.db.invoices import InvoiceLine
from studio.errors import StudioError
from studio.settings import REPOSITORY
from tests.billing.books import CHAT, Books, Gateway

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
DAY, MONTH = NOON.date(), date(2026, 11, 1)
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)


@pytest.fixture
def gateway(books: Books) -> Gateway:
    return books.gateway()


@pytest.fixture
def tenant(books: Books) -> UUID:
    return books.tenant()


@pytest.fixture
def final(books: Books, gateway: Gateway, tenant: UUID) -> UUID:
    """4.00 of prompt at 0.02, 2.00 of completion at 0.04; 7.14 gross."""
    return books.final_invoice(gateway, tenant, NOON, LATER, prompt=200_000_000, completion=50_000_000)


def set_price(books: Books, tenant: UUID, unit: str, per_million: str, valid_from: datetime = NOON) -> UUID:
    with books.as_role("operator") as session:
        return price_book.set_price(
            session, tenant_id=tenant, variant_id=CHAT, unit=unit, per_million=Decimal(per_million), tiers=(),
            valid_from=valid_from, valid_until=None, retroactive=True, by="key:finance", reason="contract", now=LATER,
        ).id  # fmt: skip


def order(books: Books, tenant: UUID) -> list[UUID]:
    with books.as_role("operator") as session:
        return rerate_order.order(session, tenant_id=tenant, month=MONTH, reason="contract 7", by="anna", now=LATER)


def approve(books: Books, correction_id: UUID) -> UUID:
    with books.as_role("operator") as session:
        gross = session.get_one(Correction, correction_id).gross
    reviewed(books, correction_id, gross, "anna")
    return approved_by(books, correction_id, gross, "bert")


def reviewed(books: Books, correction_id: UUID, gross: Decimal, by: str) -> None:
    with books.as_role("operator") as session:
        review.review_correction(session, correction_id=correction_id, expected_gross=gross, by=by, now=LATER)


def approved_by(books: Books, correction_id: UUID, gross: Decimal, by: str) -> UUID:
    with books.as_role("operator") as session:
        return approval.approve_correction(session, correction_id=correction_id, expected_gross=gross, by=by, now=LATER)


def carry_out(books: Books, approval_id: UUID) -> str:
    with books.as_role("worker") as session:
        return finalize_correction(session, approval_id, LATER)


def lines(books: Books, correction_id: UUID) -> tuple[str, dict[int, Decimal]]:
    with books.as_role("auditor") as session:
        found = correction_order.lines_of(session, correction_id)
        return session.get_one(Correction, correction_id).type, {line.line_no: line.amount for line in found}


def open_corrections(books: Books) -> list[UUID]:
    with books.as_role("auditor") as session:
        return [ids.from_wire(ids.CORRECTION, row.id) for row in open_invoices.open_invoices(session)]


def owed(books: Books) -> Decimal:
    with books.as_role("auditor") as session:
        assert invoice_booking.unequal(session) == []
        assert balances.imbalances(session) == []
        return next(one.amount for one in balances.balances(session) if one.kind == "receivable")


@pytest.mark.usefixtures("final")
def test_what_was_too_dear_is_taken_back_and_what_was_too_cheap_is_billed_once(books: Books, tenant: UUID) -> None:
    set_price(books, tenant, "prompt", "0.015")
    set_price(books, tenant, "completion", "0.05")
    drafts = order(books, tenant)
    assert [lines(books, draft) for draft in drafts] == [
        ("381", {1: Decimal("1.00")}),
        ("380", {2: Decimal("0.50")}),
    ]
    assert order(books, tenant) == drafts  # ordered again, nothing is made twice
    assert owed(books) == Decimal("7.14")  # a draft binds nobody
    numbers = [carry_out(books, approve(books, draft)) for draft in drafts]
    assert numbers == ["XDE-C-2026-000001", "XDE-2026-000002"]
    assert owed(books) == Decimal("7.14") - Decimal("1.19") + Decimal("0.60")
    with pytest.raises(NothingToCorrect, match="say what the price book"):
        order(books, tenant)
    change_price(books, tenant)
    (again,) = order(books, tenant)
    assert lines(books, again) == ("381", {1: Decimal("1.00")})


def change_price(books: Books, tenant: UUID) -> None:
    """A second mistake is found: half of the list's price it was. The owner does it, as nobody else can."""
    with books.database.superuser() as connection:
        connection.execute("alter table prices disable trigger user")
        connection.execute("update prices set per_million = 0.01 where tenant_id = %s and unit = 'prompt'", (tenant,))
        connection.execute("alter table prices enable trigger user")


def test_a_month_whose_prices_are_what_they_were_has_nothing_to_correct(
    books: Books, tenant: UUID, final: UUID
) -> None:
    with pytest.raises(NothingToCorrect):
        order(books, tenant)
    assert books.invoice(final).gross == Decimal("7.14")


@pytest.mark.usefixtures("final")
def test_the_note_explains_itself_with_both_price_rows(books: Books, tenant: UUID) -> None:
    own = set_price(books, tenant, "prompt", "0.015")
    (draft,) = order(books, tenant)
    with books.as_role("auditor") as session:
        (line,) = correction_order.lines_of(session, draft)
        listed: str = session.execute(
            text("select 'prc_' || replace(price_id::text, '-', '') from invoice_lines where unit = 'prompt'")
        ).scalar_one()
    assert line.explanation == (
        "was 200,000,000 prompt tokens x 0.02 EUR / 1,000,000 = 4.00;"
        " is 200,000,000 prompt tokens x 0.015 EUR / 1,000,000 = 3.00"
    )
    assert [row["price_id"] for row in line.prices["rated"]] == [listed]
    assert [row["price_id"] for row in line.prices["now"]] == ["prc_" + own.hex]
    carry_out(books, approve(books, draft))
    with books.as_role("worker") as session:
        snapshot = frozen_rows.of_correction(session, draft)
    assert snapshot.lines[0].explanation.endswith(line.explanation)
    assert correction_paper(snapshot).lines[0].explanation == line.explanation
    assert pdf.render(snapshot, None).startswith(b"%PDF")


@pytest.mark.usefixtures("final")
def test_it_takes_two_persons_and_what_they_saw(books: Books, tenant: UUID) -> None:
    set_price(books, tenant, "prompt", "0.015")
    (draft,) = order(books, tenant)
    with books.database.superuser() as connection:
        connection.execute("update legal_entities set four_eyes_from = 0")
    with pytest.raises(ReviewMissing):
        approved_by(books, draft, Decimal("1.19"), "bert")
    reviewed(books, draft, Decimal("1.19"), "bert")
    with pytest.raises(SamePerson):
        approved_by(books, draft, Decimal("1.19"), "bert")
    for attack in (  # the job's own role can make no draft of its own, nor change one
        "insert into corrections select * from corrections",
        "update correction_lines set prices = '{}'",
        "update corrections set rerate_no = 2",
    ):
        with books.as_role("worker") as session, pytest.raises(Exception, match="permission denied"):
            session.execute(text(attack))


@pytest.mark.usefixtures("final")
def test_prices_that_change_after_the_approval_void_it(books: Books, tenant: UUID) -> None:
    set_price(books, tenant, "prompt", "0.015")
    (draft,) = order(books, tenant)
    approved = approve(books, draft)
    set_price(books, tenant, "completion", "0.03")  # taken back on the same note, if it were ordered now
    with pytest.raises(CorrectionOutdated, match="order it again"):
        carry_out(books, approved)
    (anew,) = order(books, tenant)
    assert lines(books, anew) == ("381", {1: Decimal("1.00"), 2: Decimal("0.50")})
    assert open_corrections(books) == [anew]  # what is outdated does not wait for anybody
    carry_out(books, approve(books, anew))
    with pytest.raises(CorrectionOutdated):
        carry_out(books, approved)
    assert owed(books) == Decimal("7.14") - Decimal("1.79")
    with books.as_role("worker") as session:
        assert approved not in [one.id for one in approval.waiting_corrections(session)]


@pytest.mark.usefixtures("final")
def test_drafts_leave_the_open_list_when_prices_come_back_or_a_person_drops_them(books: Books, tenant: UUID) -> None:
    own = set_price(books, tenant, "prompt", "0.015")
    (draft,) = order(books, tenant)
    approved = approve(books, draft)
    with books.as_role("operator") as session:
        review.drop_correction(session, draft)
    assert open_corrections(books) == []
    with pytest.raises(CorrectionOutdated, match="was dropped"):
        carry_out(books, approved)
    with books.as_role("operator") as session, pytest.raises(NotADraft):
        review.drop_correction(session, draft)
    (again,) = order(books, tenant)
    with books.database.superuser() as connection:  # as if the contract had never been
        connection.execute("set session_replication_role = replica")
        connection.execute("delete from prices where id = %s", (own,))
    with pytest.raises(CorrectionOutdated):
        carry_out(books, refused := approve(books, again))
    with books.as_role("worker") as session:  # as the job does that was refused
        drop_if_outdated(session, refused, LATER)
    assert open_corrections(books) == []
    with pytest.raises(NothingToCorrect):
        order(books, tenant)


# Carries a correction out, tells its number and is killed before it commits.
DYING = """
import sys, time
from uuid import UUID
from billing.correction_finalize import finalize_correction
from studio import clock
from studio.db.sessions import engine_for, unit_of_work
with unit_of_work(engine_for(sys.argv[1])) as session:
    print(finalize_correction(session, UUID(sys.argv[2]), clock.now()), flush=True)
    time.sleep(600)
"""


def test_one_is_killed_while_others_race_and_what_was_ordered_several_times_is_corrected_once(
    books: Books, tenant: UUID, final: UUID, request: pytest.FixtureRequest
) -> None:
    """Two drafts that say the same can be there only by a race of their orders: it is made here by hand."""
    set_price(books, tenant, "prompt", "0.015")
    (draft,) = order(books, tenant)
    with books.as_role("operator") as session:
        twin = {line.line_no: line for line in correction_order.lines_of(session, draft)}
        drafts = [draft] + [
            correction_order.order(
                session, invoice_id=final, type=CorrectionType.CREDIT_NOTE,
                wanted={1: Decimal("1.00")}, reason="contract 7", by="anna", now=LATER, rerate_no=1,
                explained={1: correction_order.Explained(Decimal("1.00"), twin[1].explanation, twin[1].prices)},
            )
            for _ in range(3)
        ]  # fmt: skip
    approvals = [approve(books, one) for one in drafts]

    def try_it(approval_id: UUID) -> str | None:
        try:
            return carry_out(books, approval_id)
        except StudioError:
            return None

    dying = subprocess.Popen(
        [sys.executable, "-c", DYING, books.database.url("worker"), str(approvals[0])],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    request.addfinalizer(dying.kill)
    assert dying.stdout is not None
    assert dying.stdout.readline() == "XDE-C-2026-000001\n"
    with ThreadPoolExecutor(4) as threads:
        racing = [threads.submit(try_it, one) for one in [*approvals, *approvals]]
        dying.kill()
        dying.communicate()
        numbers = [number for one in racing if (number := one.result())]
    assert set(numbers) == {"XDE-C-2026-000001"}
    assert owed(books) == Decimal("5.95")


@pytest.mark.usefixtures("final")
def test_an_open_draft_of_the_month_and_a_correction_by_hand_are_for_people(
    books: Books, gateway: Gateway, tenant: UUID
) -> None:
    set_price(books, tenant, "prompt", "0.015")
    gateway.uses(tenant, NOON + timedelta(days=1), prompt=100_000_000)
    books.close_day(gateway, tenant, DAY + timedelta(days=1))
    late = books.draft(tenant, MONTH, LATER)
    assert late is not None
    with pytest.raises(DraftWaits, match="make it final or drop it"):
        order(books, tenant)
    books.finalize(late, LATER)
    (draft,) = order(books, tenant)  # the late invoice was rated at the right price already
    assert lines(books, draft) == ("381", {1: Decimal("1.00")})
    with books.as_role("operator") as session:
        first = session.get_one(Correction, draft).invoice_id
        by_hand = correction_order.order(
            session, invoice_id=first, type=CorrectionType.CREDIT_NOTE, wanted={1: Decimal("0.10")},
            reason="goodwill", by="anna", now=LATER,
        )  # fmt: skip
    approved = approve(books, draft)
    carry_out(books, approve(books, by_hand))
    with pytest.raises(NotForAMachine, match=r"corrected by hand \(XDE-C-2026-000001\)"):
        order(books, tenant)
    with pytest.raises(NotForAMachine):
        carry_out(books, approved)


@pytest.mark.usefixtures("final")
def test_what_the_month_lacks_to_its_minimum_only_now_is_netted(books: Books, gateway: Gateway, tenant: UUID) -> None:
    gateway.reports(LATER)  # the month is complete
    with books.as_role("operator") as session:
        price_book.commit(
            session, tenant_id=tenant, amount=Decimal("5.50"), valid_from=MONTH, valid_until=None,
            by="key:finance", reason="contract", now=NOON - timedelta(days=40),
        )  # fmt: skip
    set_price(books, tenant, "prompt", "0.015")  # 5.00 of usage, so 0.50 is owed all the same
    (draft,) = order(books, tenant)
    assert lines(books, draft) == ("381", {1: Decimal("0.50")})
    carry_out(books, approve(books, draft))
    assert owed(books) == Decimal("6.54")  # 5.50 and tax, each correction with its own cent
    with pytest.raises(NothingToCorrect):
        order(books, tenant)


def test_late_usage_after_a_re_rating_finds_the_month_as_it_stands(
    books: Books, gateway: Gateway, tenant: UUID
) -> None:
    """6.00 of usage and 4.00 that it lacks; re-rated to 4.00 and 6.00; then 7.00 arrive, and the month is 11.00."""
    with books.as_role("operator") as session:
        price_book.commit(
            session, tenant_id=tenant, amount=Decimal(10), valid_from=MONTH, valid_until=None, by="key:finance",
            reason="contract", now=NOON - timedelta(days=40),
        )  # fmt: skip
    gateway.uses(tenant, NOON, prompt=200_000_000, completion=50_000_000)
    books.close_day(gateway, tenant, DAY)
    gateway.reports(LATER)  # the month is complete
    first = books.draft(tenant, MONTH, LATER)
    assert first is not None
    books.finalize(first, LATER)
    set_price(books, tenant, "prompt", "0.01")
    drafts = order(books, tenant)
    assert [lines(books, one) for one in drafts] == [("381", {1: Decimal(2)}), ("380", {3: Decimal(2)})]
    for one in drafts:
        carry_out(books, approve(books, one))
    assert owed(books) == Decimal("11.90")

    gateway.uses(tenant, NOON + timedelta(hours=1), prompt=700_000_000)
    books.close_day(gateway, tenant, DAY)
    gateway.reports(LATER)
    late = books.draft(tenant, MONTH, LATER)
    assert late is not None
    with books.as_role("auditor") as session:
        billed = select(InvoiceLine.unit, InvoiceLine.amount).where(InvoiceLine.invoice_id == late)
        assert dict(session.execute(billed.order_by(InvoiceLine.line_no)).tuples().all()) == {
            "prompt": Decimal(7),
            "minimum_commitment": Decimal(-6),
        }
    books.finalize(late, LATER)
    assert owed(books) == Decimal("13.09")  # 11.00 and tax


# --- the arithmetic ---------------------------------------------------------------------------------------------------

PRICES = [uuid4() for _ in range(4)]


def line(no: int, unit: str, price_id: UUID, tokens: int, amount: Decimal) -> Line:
    return Line(no, CHAT, unit, price_id, "", 0, tokens, Decimal(1), amount, amount, f"{tokens} tokens", ())


@st.composite
def invoices(draw: st.DrawFn) -> tuple[list[Line], list[Line], Decimal]:
    """Lines as billed and as they come to now: per unit the same tokens, over other rows, at other amounts."""
    billed: list[Line] = []
    now: list[Line] = []
    cents = st.integers(0, 10_000).map(lambda value: Decimal(value) / 100)
    for unit in ("prompt", "completion"):
        for side in (billed, now):
            rows = draw(st.lists(st.sampled_from(PRICES), min_size=1, max_size=3, unique=True))
            shares = [10] * (len(rows) - 1)
            for price_id, tokens in zip(rows, [100 - sum(shares), *shares], strict=True):
                side.append(line(len(side) + 1, unit, price_id, tokens, draw(cents)))
    return billed, now, draw(st.integers(-500, 500).map(lambda value: Decimal(value) / 100))


def total(of: Sequence[Line]) -> Decimal:
    return sum((one.amount for one in of), Decimal(0))


@given(invoices())
def test_changes_come_to_the_whole_difference_and_never_take_more_than_there_is(
    drawn: tuple[list[Line], list[Line], Decimal],
) -> None:
    billed, now, commitment = drawn
    changes = price_changes.of_usage(billed, {}, now)
    assert sum(one.amount for one in changes) == total(now) - total(billed)
    amounts = {one.line_no: one.amount for one in billed}
    assert all(one.amount >= -amounts[one.line_no] for one in changes)
    assert len({one.line_no for one in changes}) == len(changes)
    try:
        netted = price_changes.with_commitment(billed, {}, changes, commitment)
    except NotForAMachine:
        opposite = sum(abs(one.amount) for one in changes if (one.amount < 0) == (commitment > 0))
        assert opposite < abs(commitment)
        return
    assert sum(one.amount for one in netted) == total(now) - total(billed) + commitment
    corrected = {one.line_no: Corrected(one.amount, one.netted) for one in netted}
    if len(netted) == len(changes):  # none was netted to nothing, so all is known of what was done
        assert price_changes.of_usage(billed, corrected, now) == []


def test_other_tokens_are_no_matter_of_prices() -> None:
    billed = [line(1, "prompt", PRICES[0], 100, Decimal("1.00"))]
    with pytest.raises(NotForAMachine, match="no matter of prices"):
        price_changes.of_usage(billed, {}, [replace(billed[0], tokens=99)])
