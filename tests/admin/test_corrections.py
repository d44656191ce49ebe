"""Corrections through the front door."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from billing.correction_finalize import finalize_correction
from local.api import ApiRefused
from studio import ids
from tests.admin.conftest import Office
from tests.billing.books import Books
from tests.serving.gateway_process import CHAT

# A final invoice of two lines, 4.00 and 2.00 net, as the chain leaves it behind.
FINAL_INVOICE = """
    with request as (
        insert into invoice_requests (tenant_id, month, requested_by, reason)
        select id, '2026-11-01', 'tests', 'test' from tenants where slug = 'acme' returning id, tenant_id
    )
    insert into invoices (tenant_id, legal_entity_id, request_id, month, period_from, period_until, time_zone, state,
                          currency, rounding_mode, tax_category, tax_rate, net, tax, gross, seller, buyer)
    select tenant_id, 'xpulink-de', id, '2026-11-01', '2026-11-01', '2026-11-30', 'Europe/Berlin', 'draft', 'EUR',
           'half_up', 'S', 0.19, 6.00, 1.14, 7.14, '{"name": "X", "country": "DE"}',
           '{"name": "Acme", "city": "Berlin", "postcode": "10115", "country": "DE", "email": "ap@acme.example"}'
    from request
    returning id
"""
LINES = """
    insert into invoice_lines (invoice_id, line_no, variant_id, unit, price_id, tokens, per_million, exact, amount,
                               explanation)
    select i.id, n.line_no, p.variant_id, p.unit, p.id, n.amount * 1000000, 1, n.amount, n.amount, ''
    from invoices i, (values (1, 4.00), (2, 2.00)) as n (line_no, amount),
         (select * from prices where unit = 'prompt' limit 1) p
"""
MAKE_FINAL = """
    set session_replication_role = replica;
    update invoices set state = 'final', number = 'XDE-2026-000001', issued_on = '2026-12-01', approval_id = uuidv7()
"""


@pytest.fixture(scope="module")
def invoice(office: Office) -> str:
    with office.database.superuser() as connection:
        row = connection.execute(FINAL_INVOICE).fetchone()
        connection.execute(LINES)
        connection.execute(MAKE_FINAL)
    assert row is not None
    invoice_id: UUID = row[0]
    return ids.to_wire(ids.INVOICE, invoice_id)


def test_a_correction_is_ordered_shown_and_approved_at_its_total(office: Office, invoice: str) -> None:
    body = {"kind": "credit_note", "lines": [{"line_no": 2, "amount": "0.50"}], "reason": "price was wrong"}
    ordered = office.api.post(f"/admin/v1/invoices/{invoice}/corrections", body)
    assert (ordered["type_code"], ordered["state"], ordered["invoice_number"]) == ("381", "draft", "XDE-2026-000001")
    assert (ordered["net"], ordered["tax"], ordered["gross"]) == ("0.50", "0.10", "0.60")
    assert ordered in office.api.get(f"/admin/v1/invoices/{invoice}/corrections")
    path = f"/admin/v1/corrections/{ordered['id']}"
    assert office.api.get(path) == ordered
    with pytest.raises(ApiRefused, match=r"total is 0\.60, not 0\.61 EUR"):
        office.api.post(f"{path}/approvals", {"expected_gross": "0.61"})
    with pytest.raises(ApiRefused, match=rf"studio invoice review {ordered['id']} --total 0\.60"):
        office.api.post(f"{path}/approvals", {"expected_gross": "0.60"})
    office.colleague.post(f"{path}/reviews", {"expected_gross": "0.60"})
    approved = office.api.post(f"{path}/approvals", {"expected_gross": "0.60"})
    assert approved["approved_by"] == office.admin_key[:12]
    with pytest.raises(ApiRefused, match="no document yet"):
        office.api.download(f"{path}/document")
    with office.database.superuser() as connection:
        audited = connection.execute(
            "select action from audit_log where subject in (%s, %s) order by at", (invoice, ordered["id"])
        ).fetchall()
    assert audited == [("invoice.correct",), ("correction.review",), ("correction.approve",)]


def test_the_command_line_orders_and_says_how_to_approve(office: Office, invoice: str) -> None:
    ordered = office.studio("invoice", "correct", invoice, "--line", "1=0.10", "--line", "2=0.20", "--reason", "x")
    assert ordered.returncode == 0, ordered.stderr
    (*_, newest) = office.api.get(f"/admin/v1/invoices/{invoice}/corrections")
    assert [(line["line_no"], line["amount"]) for line in newest["lines"]] == [(1, "0.10"), (2, "0.20")]
    approve = f"invoice approve {newest['id']} --total 0.36"
    assert approve in " ".join(ordered.stdout.split())
    refused = office.studio(*approve.split())
    assert (refused.returncode, "Somebody else reviews it first" in " ".join(refused.stderr.split())) == (1, True)
    office.colleague.post(f"/admin/v1/corrections/{newest['id']}/reviews", {"expected_gross": "0.36"})
    assert "Approved by" in office.studio(*approve.split()).stdout


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"lines": [{"line_no": 1, "amount": "4.01"}]}, "Only 4.00 is left of line 1"),
        ({"lines": [{"line_no": 1, "amount": "1.00"}] * 2}, "each line once"),
        ({"lines": [{"line_no": 3, "amount": "1.00"}]}, "no line 3"),
        ({"lines": [{"line_no": 1, "amount": "-1.00"}]}, "greater than 0"),
        ({"lines": []}, "at least one line"),
        ({"kind": "gift"}, "cancellation"),
        ({"kind": "cancellation", "lines": [{"line_no": 1, "amount": "1.00"}]}, "name no lines"),
        ({"reason": ""}, "at least 1 character"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(
    office: Office, invoice: str, body: dict[str, object], words: str
) -> None:
    whole = {"kind": "credit_note", "lines": [{"line_no": 1, "amount": "1.00"}], "reason": "x"} | body
    with pytest.raises(ApiRefused, match=words):
        office.api.post(f"/admin/v1/invoices/{invoice}/corrections", whole)


def test_what_does_not_exist_is_not_corrected(office: Office) -> None:
    body = {"kind": "cancellation", "reason": "x"}
    with pytest.raises(ApiRefused, match="no invoice"):
        office.api.post(f"/admin/v1/invoices/{ids.to_wire(ids.INVOICE, ids.uuid7())}/corrections", body)
    with pytest.raises(ApiRefused, match="was expected"):
        office.api.get("/admin/v1/corrections/inv_0")


NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def rated(office: Office) -> Iterator[Books]:
    """A tenant's final invoice over usage that was rated: 200 million tokens at 0.02."""
    books = Books(office.database)
    with office.database.superuser() as connection:
        connection.execute(
            "insert into replicas (id, variant_id, kind, state, url, engine_model, created_at)"
            " values (%s, %s, 'process', 'ready', '', 'x', '2026-01-01')",
            (books.replica_id, CHAT),
        )
        # The invoice that the other tests correct has the first number without having drawn it.
        connection.execute("insert into number_series values ('xpulink-de', 2026, 'invoice', 1)")
    books.final_invoice(books.gateway(), books.tenant(), NOON, LATER, prompt=200_000_000, variant=CHAT)
    yield books
    books.close()


def test_a_re_rating_is_ordered_by_command_and_carried_out_after_two_persons(office: Office, rated: Books) -> None:
    asked = ("invoice", "rerate", "2026-11", "--correct", "--tenant", "kunde", "--reason", "contract 7")
    nothing = office.studio(*asked)
    assert (nothing.returncode, "say what the price book" in " ".join(nothing.stderr.split())) == (1, True)
    office.api.post("/admin/v1/tenants/kunde/prices", {
        "model": CHAT, "unit": "prompt", "per_million": "0.001", "valid_from": "2026-11-01T00:00:00Z",
        "retroactive": True, "reason": "contract 7",
    })  # fmt: skip
    drafted = office.studio(*asked)
    assert drafted.returncode == 0, drafted.stderr
    (draft,) = office.api.post("/admin/v1/rerates/2026-11/corrections", {"tenant": "kunde", "reason": "contract 7"})
    assert f"Drafted credit note {draft['id']}" in drafted.stdout
    (line,) = draft["lines"]
    assert (draft["of_rerating"], draft["state"], line["now"][0]["amount"]) == (True, "draft", "0.20")
    assert line["explanation"].startswith("was 200,000,000 prompt tokens x ")
    total = {"expected_gross": draft["gross"]}
    with pytest.raises(ApiRefused, match="Somebody else reviews it first"):
        office.api.post(f"/admin/v1/corrections/{draft['id']}/approvals", total)
    office.colleague.post(f"/admin/v1/corrections/{draft['id']}/reviews", total)
    approved = office.api.post(f"/admin/v1/corrections/{draft['id']}/approvals", total)
    with rated.as_role("worker") as session:
        number = finalize_correction(session, ids.from_wire(ids.APPROVAL, approved["id"]), LATER)
    assert office.api.get(f"/admin/v1/corrections/{draft['id']}")["number"] == number
    assert office.studio(*asked).returncode == 1
    with office.database.superuser() as connection:
        audited = connection.execute(
            "select actor, details ->> 'reason' from audit_log where action = 'invoice.rerate'"
        )
        assert audited.fetchall() == [(office.admin_key[:12], "contract 7")] * 2
