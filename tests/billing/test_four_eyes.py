"""Two persons: nothing becomes final by one alone, neither through our code nor by SQL in the roles that we run as."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from billing import (
    approval,
    correction_order,
    credit_lots,
    credit_requests,
    draft,
    finalize,
    holds,
    open_invoices,
    review,
)
from billing.approval import DraftIsVoid, InvoiceIsFinal, TotalDiffers
from billing.correction import CorrectionType
from billing.correction_finalize import finalize_correction
from billing.credit_lots import SecondPersonNeeded
from billing.credit_requests import AlreadyAnswered
from billing.four_eyes import DraftChanged, PersonNeeded, ReviewMissing, SamePerson
from billing.holds import TenantHeld
from studio import ids
from studio.db.invoices import InvoiceRequest, Reconciliation
from studio.errors import Conflict
from studio.settings import DatabaseRole
from tests.billing.books import Books, Gateway

DAY, MONTH = date(2026, 11, 10), date(2026, 11, 1)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)
GROSS = Decimal("7.14")
ANNA, ANNA_TOO = "oidc:https://id.example#anna (anna@example.com)", "oidc:https://id.example#anna (a@example.com)"
BERT = "xpu_bert"


@pytest.fixture
def gateway(books: Books) -> Gateway:
    with books.database.superuser() as connection:
        connection.execute("update legal_entities set four_eyes_from = 0")
    return books.gateway()


@pytest.fixture
def drafted(books: Books, gateway: Gateway) -> UUID:
    tenant = books.tenant()
    gateway.uses(tenant, NOON, prompt=200_000_000, completion=50_000_000)
    books.close_day(gateway, tenant, DAY)
    invoice_id = books.draft(tenant, MONTH, LATER)
    assert invoice_id is not None
    return invoice_id


def reviewed(books: Books, invoice_id: UUID, by: str = ANNA) -> UUID:
    with books.as_role("operator") as session:
        return review.review(session, invoice_id=invoice_id, expected_gross=GROSS, by=by, now=LATER)


def approved(books: Books, invoice_id: UUID, by: str = BERT, gross: Decimal = GROSS) -> UUID:
    with books.as_role("operator") as session:
        return approval.approve(session, invoice_id=invoice_id, expected_gross=gross, by=by, now=LATER)


def carried_out(books: Books, approval_id: UUID) -> str:
    with books.as_role("worker") as session:
        return finalize.finalize(session, approval_id, LATER)


def waits(books: Books) -> list[tuple[str, str]]:
    with books.as_role("operator") as session:
        return [(row.waits_for, row.who) for row in open_invoices.open_invoices(session)]


def refused(books: Books, role: DatabaseRole, statement: str, words: str, **values: object) -> None:
    with pytest.raises(DBAPIError, match=words), books.as_role(role) as session:
        session.execute(text(statement), values)


def test_one_reviews_another_approves_and_the_list_says_who_must_act(books: Books, drafted: UUID) -> None:
    assert waits(books) == [("review", "anybody")]
    with pytest.raises(ReviewMissing, match="Somebody else reviews it first"):
        approved(books, drafted)
    reviewed(books, drafted)
    assert waits(books) == [("approval", "anybody but oidc:https://id.example#anna")]
    with pytest.raises(SamePerson):
        approved(books, drafted, ANNA_TOO)  # the same subject with another mail address is the same person
    approval_id = approved(books, drafted)
    assert waits(books) == [("numbering", "Dagster carries the approval out")]
    with books.as_role("operator") as session:
        (row,) = open_invoices.open_invoices(session)
        seen: str = session.execute(text("select content_sha256 from approvals")).scalar_one()
    told = (row.asked_by, [name.rpartition("#")[2] for name in (*row.reviewed_by, *row.approved_by)])
    assert (told, row.content_sha256) == (("test", ["anna", "xpu_bert"]), seen)
    assert carried_out(books, approval_id) == "XDE-2026-000001"
    assert waits(books) == []


def test_a_draft_that_is_redone_has_neither_review_nor_approval(books: Books, gateway: Gateway, drafted: UUID) -> None:
    reviewed(books, drafted)
    approval_id = approved(books, drafted)
    gateway.uses(books.invoice(drafted).tenant_id, NOON, prompt=50_000_000)
    books.close_day(gateway, books.invoice(drafted).tenant_id, DAY)
    with books.as_role("worker") as session:
        draft.draft(session, session.scalars(select(InvoiceRequest.id)).one(), LATER)
    with pytest.raises(TotalDiffers):
        carried_out(books, approval_id)
    with pytest.raises(ReviewMissing, match="redone since its review"):
        approved(books, drafted, gross=Decimal("8.33"))
    with books.database.superuser() as connection:  # the same total again, of other lines
        connection.execute("update invoices set net = 6, tax = 1.14, gross = 7.14")
    with pytest.raises(DraftChanged):
        carried_out(books, approval_id)
    refused(books, "worker", _FINAL, "no approval of what it says now", approval=approval_id)


_FINAL = "update invoices set state = 'final', number = 'X-1', issued_on = current_date, approval_id = :approval"
_APPROVE = """
    insert into approvals (invoice_id, action, expected_gross, approved_by, executed_at, review_id, reviewed_by)
    select id, 'finalize', gross, :by, now(), cast(:review as uuid), :reviewer from invoices
"""


def test_sql_in_our_own_roles_cannot_go_around_it(books: Books, drafted: UUID) -> None:
    """What a compromised gateway or Dagster could try with the roles that they have."""
    refused(books, "operator", _APPROVE, "second person", by="bert", review=None, reviewer=None)
    review_id = reviewed(books, drafted, "anna")
    forged = {"by": "anna", "review": review_id, "reviewer": "somebody"}
    refused(books, "operator", _APPROVE, "second person", **forged)
    refused(books, "worker", _APPROVE, "permission denied", **forged)
    refused(books, "worker", _FINAL, "no approval", approval=ids.uuid7())
    refused(books, "operator", _FINAL, "permission denied", approval=ids.uuid7())
    born_final = """insert into invoices select (jsonb_populate_record(i, '{"state": "final"}')).* from invoices i"""
    refused(books, "worker", born_final, "begin as drafts")
    for attack in (
        "update reviews set reviewed_by = 'somebody'",
        "delete from reviews",
        "update approvals set reviewed_by = 'somebody'",
        "update legal_entities set four_eyes_from = 1000000",
        "insert into reviews select * from reviews",
    ):
        role: DatabaseRole = "worker" if attack.startswith("insert") else "operator"
        refused(books, role, attack, "permission denied")
    with books.database.superuser() as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute("update reviews set reviewed_by = 'somebody'")
    approval_id = approved(books, drafted, "bert")
    changed = _FINAL.replace("set", "set gross = 1, net = 1, tax = 0,")
    refused(books, "worker", changed, "no approval of what it says", approval=approval_id)
    refused(books, "worker", "update invoices set number = 'X-1'", "only_final_has_number")
    assert books.invoice(drafted).state == "draft"


def test_racing_approvers_make_one_invoice(books: Books, drafted: UUID) -> None:
    reviewed(books, drafted, "anna")
    reviewed(books, drafted, "bert")

    def approve_and_carry_out(by: str) -> str | None:
        try:
            return carried_out(books, approved(books, drafted, by))
        except InvoiceIsFinal:
            return None

    with ThreadPoolExecutor(4) as threads:
        numbers = list(threads.map(approve_and_carry_out, ("anna", "bert", "cleo", "dora")))
    assert sorted(filter(None, numbers)) == ["XDE-2026-000001"]
    with books.as_role("auditor") as session:
        pairs = session.execute(text("select reviewed_by, approved_by from approvals")).all()
    assert all(reviewer != approver for reviewer, approver in pairs)


def test_below_the_threshold_one_person_is_enough(books: Books, gateway: Gateway, drafted: UUID) -> None:
    with books.database.superuser() as connection:
        connection.execute("update legal_entities set four_eyes_from = 7.15")
    assert waits(books) == [("approval", "anybody")]
    approval_id = approved(books, drafted)
    with books.database.superuser() as connection:
        connection.execute("update legal_entities set four_eyes_from = 7.14")
    refused(books, "worker", _FINAL, "one person alone", approval=approval_id)


def test_where_people_are_asked_for_keys_do_not_count(books: Books, drafted: UUID) -> None:
    with books.database.superuser() as connection:
        connection.execute("update legal_entities set four_eyes_by = 'people'")
    with pytest.raises(PersonNeeded):
        reviewed(books, drafted, "xpu_anna")
    reviewed(books, drafted, ANNA)
    with pytest.raises(PersonNeeded):
        approved(books, drafted, BERT)
    refused(books, "operator", _APPROVE, "second person", by=BERT, review=None, reviewer=None)
    approved(books, drafted, "oidc:https://id.example#bert")


class TestHolds:
    def test_a_hold_stops_one_tenant_until_somebody_releases_it(self, books: Books, drafted: UUID) -> None:
        reviewed(books, drafted)
        approval_id = approved(books, drafted)
        tenant = books.invoice(drafted).tenant_id
        with books.as_role("operator") as session:
            hold_id = holds.hold(session, tenant_id=tenant, reason="meter looks odd", by="cleo", now=LATER)
        assert [kind for kind, _ in waits(books)] == ["hold"]
        for act in (lambda: approved(books, drafted), lambda: carried_out(books, approval_id)):
            with pytest.raises(TenantHeld, match="meter looks odd"):
                act()
        refused(books, "worker", _FINAL, "are held", approval=approval_id)
        refused(books, "worker", "update invoice_holds set released_by = 'x'", "permission denied")
        with books.as_role("worker") as session:
            assert approval.waiting(session) == []  # no run is started that could only fail
        with books.as_role("operator") as session:
            holds.release(session, hold_id=hold_id, reason="it was right", by="dora", now=LATER)
        with books.as_role("operator") as session, pytest.raises(Conflict, match="dora has released"):
            holds.release(session, hold_id=hold_id, reason="again", by="cleo", now=LATER)
        refused(books, "operator", "update invoice_holds set released_by = 'x'", "answered once")
        with books.as_role("worker") as session:
            assert [waiting.id for waiting in approval.waiting(session)] == [approval_id]
        assert carried_out(books, approval_id) == "XDE-2026-000001"

    def test_a_red_reconciliation_holds_its_tenant_once(self, books: Books, gateway: Gateway, drafted: UUID) -> None:
        neighbour = books.tenant("neighbour")
        subject = ids.to_wire(ids.INVOICE, drafted)
        for agrees, held in ((False, 1), (False, 1), (True, 0)):
            with books.as_role("worker") as session:
                session.execute(
                    insert(Reconciliation).values(
                        kind="lines_add_up_to_total", subject=subject, expected=1, observed=2, agrees=agrees,
                        details={}, at=datetime.now(UTC),
                    )
                )  # fmt: skip
            for expected in (held, 0):
                with books.as_role("worker") as session:
                    assert len(holds.hold_red(session, LATER)) == expected
        with books.as_role("operator") as session:
            assert [hold.held_by for hold in holds.holds(session)] == ["reconciliation"] * 2  # green does not release
            assert holds.holds(session, neighbour) == []


def test_a_void_draft_has_no_number_and_frees_its_usage(books: Books, drafted: UUID) -> None:
    reviewed(books, drafted)
    approval_id = approved(books, drafted)
    tenant = books.invoice(drafted).tenant_id
    with books.as_role("operator") as session:
        review.drop(session, drafted)
    with books.as_role("operator") as session, pytest.raises(Conflict):
        review.drop(session, drafted)
    for act in (lambda: reviewed(books, drafted), lambda: carried_out(books, approval_id)):
        with pytest.raises(DraftIsVoid):
            act()
    refused(books, "worker", "update invoices set state = 'draft'", "is void")
    again = books.draft(tenant, MONTH, LATER)
    assert again not in (None, drafted)
    assert again is not None
    reviewed(books, again)
    assert carried_out(books, approved(books, again)) == "XDE-2026-000001"  # no gap


def test_a_correction_needs_two_persons_too(books: Books, drafted: UUID) -> None:
    reviewed(books, drafted)
    carried_out(books, approved(books, drafted))
    with books.as_role("operator") as session:
        correction_id = correction_order.order(
            session, invoice_id=drafted, type=CorrectionType.CREDIT_NOTE, wanted={1: Decimal("1.00")}, reason="x",
            by="anna", now=LATER,
        )  # fmt: skip

    def approve(by: str) -> UUID:
        with books.as_role("operator") as session:
            return approval.approve_correction(
                session, correction_id=correction_id, expected_gross=Decimal("1.19"), by=by, now=LATER
            )

    with pytest.raises(ReviewMissing):  # the review of the invoice is none of its correction
        approve("bert")
    with books.as_role("operator") as session:
        review.review_correction(
            session, correction_id=correction_id, expected_gross=Decimal("1.19"), by="bert", now=LATER
        )
    with pytest.raises(SamePerson):
        approve("bert")
    with books.as_role("worker") as session:
        assert finalize_correction(session, approve("anna"), LATER) == "XDE-C-2026-000001"


class TestCredit:
    def test_a_large_lot_is_asked_for_by_one_and_granted_by_another(self, books: Books, gateway: Gateway) -> None:
        tenant = books.tenant()
        terms = {"tenant_id": tenant, "kind": "promotion", "amount": Decimal("10000.00"), "expires_on": None}

        def act(what: Callable[..., object], **values: object) -> object:
            with books.as_role("operator") as session:
                return what(session, now=LATER, **values)

        with pytest.raises(SecondPersonNeeded):
            act(credit_lots.grant, **terms, by="anna", reason="x")
        act(credit_lots.grant, **(terms | {"amount": Decimal("9999.99")}), by="anna", reason="x")
        request_id = act(credit_requests.request, **terms, by=ANNA, reason="x")
        with pytest.raises(SamePerson):
            act(credit_requests.approve, request_id=request_id, by=ANNA_TOO)

        def approve(by: str) -> bool:
            try:
                return bool(act(credit_requests.approve, request_id=request_id, by=by))
            except AlreadyAnswered:
                return False

        with ThreadPoolExecutor(3) as threads:
            assert sorted(threads.map(approve, ("bert", "cleo", "dora"))) == [False, False, True]
        with books.as_role("operator") as session:
            assert [lot.amount for lot in credit_lots.lots_of(session, tenant)] == [
                Decimal("9999.99"), Decimal("10000.00"),
            ]  # fmt: skip
        columns = "tenant_id, legal_entity_id, kind, currency, amount, granted_on, granted_by, reason"
        lot = f"insert into credit_lots ({columns}"
        values = "select tenant_id, legal_entity_id, kind, currency, 10000, granted_on, 'anna', ''"
        refused(books, "operator", f"{lot}) {values} from credit_lots limit 1", "two persons")
        declined = act(credit_requests.request, **terms, by=ANNA, reason="again")
        act(credit_requests.decline, request_id=declined, by="bert", reason="one was enough")
        with pytest.raises(AlreadyAnswered):
            act(credit_requests.approve, request_id=declined, by="cleo")
        refused(books, "operator", "update credit_requests set approved_by = 'cleo', approved_at = now()"
                " where declined_by is not null", "answered once")  # fmt: skip
        unanswered = act(credit_requests.request, **terms, by=ANNA, reason="y")
        with books.as_role("operator") as session:
            assert [asked.id for asked in credit_requests.open_requests(session)] == [unanswered]
        refused(books, "operator", f"{lot}, request_id) {values}, :request from credit_lots limit 1",
                "not approved like this", request=unanswered)  # fmt: skip
        refused(books, "operator", "update credit_requests set approved_by = 'x'", "answered once")
