"""Money in through the front door: finance's commands, what a tenant sees of it, and Stripe's messages."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from billing import invoice_booking, payment_reference
from local.api import Api, ApiRefused
from serving.identity import permissions
from serving.identity.permissions import Permission, Role
from studio import ids
from studio.db.sessions import engine_for, unit_of_work
from studio.db.tenancy import Tenant
from studio.tenants import create_key, find_tenant
from tests.admin.conftest import STRIPE_SECRET, Office
from tests.admin.test_corrections import FINAL_INVOICE, LINES, MAKE_FINAL
from tests.billing import statements
from tests.billing.statements import OURS, Line
from tests.conftest import new_tenant

NUMBER = "XDE-2026-000001"
REFERENCE = payment_reference.of_invoice(NUMBER)


@pytest.fixture(scope="module")
def invoice(office: Office) -> str:
    """Of acme: 7.14 EUR, final, issued on 2026-12-01 and in the ledger."""
    with office.database.superuser() as connection:
        row = connection.execute(FINAL_INVOICE).fetchone()
        connection.execute(LINES)
        connection.execute(MAKE_FINAL)
    assert row is not None
    worker = engine_for(office.database.url("worker"))
    with unit_of_work(worker) as session:
        assert invoice_booking.book_missing(session) == [NUMBER]
    worker.dispose()
    return ids.to_wire(ids.INVOICE, row[0])


@pytest.fixture(scope="module")
def tenant_id(office: Office) -> UUID:
    with unit_of_work(office.operator) as session:
        return find_tenant(session, "acme").id


@pytest.fixture(scope="module")
def owner(office: Office, tenant_id: UUID) -> Iterator[Api]:
    """A program of acme's accountants."""
    with unit_of_work(office.operator) as session:
        key = create_key(session, tenant_id, "accounts", "tests", scopes=["account"])
    api = Api(office.gateway.url, key.text)
    yield api
    api.close()


@pytest.fixture(scope="module")
def stranger(office: Office) -> Iterator[Api]:
    """The same of another tenant."""
    other = new_tenant(office.operator, "globex")
    with unit_of_work(office.operator) as session:
        key = create_key(session, other, "accounts", "tests", scopes=["account"])
    api = Api(office.gateway.url, key.text)
    yield api
    api.close()


@pytest.fixture(scope="module")
def colleague(office: Office) -> Iterator[Api]:
    """Another person in finance."""
    with unit_of_work(office.operator) as session:
        house = session.query(Tenant).filter_by(slug="house").one()
        key = create_key(session, house.id, "second", "tests", scopes=["admin"])
    api = Api(office.gateway.url, key.text)
    yield api
    api.close()


def test_a_statement_is_imported_once_and_pays_what_its_reference_names(
    office: Office, owner: Api, invoice: str, tmp_path: Path
) -> None:
    file = tmp_path / "statement.xml"
    file.write_bytes(statements.camt(Line("2.00", REFERENCE, reference="1"), Line("3.00", "thanks", reference="2")))
    first = office.studio("payment", "import", str(file))
    assert "2 booked (1 matched)" in first.stdout, first.stderr
    again = {"name": "again", "content": base64.b64encode(file.read_bytes()).decode()}
    assert office.api.post("/admin/v1/payments/imports", again)["is_repeated"] is True
    (waiting,) = office.api.get("/admin/v1/payments", waiting="true")
    assert (waiting["unmatched"], waiting["why"]) == ("3.00", "It carries no reference that we know.")
    matched = office.studio(
        "payment", "match", waiting["id"], "--invoice", f"{invoice}=1.00", "--tenant", "acme", "--reason", "asked"
    )
    assert matched.returncode == 0, matched.stderr
    seen = owner.get(f"/v1/invoices/{invoice}")
    assert (seen["number"], seen["reference"], seen["paid"], seen["open"]) == (NUMBER, REFERENCE, "3.00", "4.14")
    (balance,) = owner.get("/v1/balance")["data"]
    assert (balance["unpaid"], balance["unapplied"], balance["unpaid_invoices"]) == ("4.14", "2.00", 1)


def test_an_order_with_the_same_key_is_carried_out_once_and_no_refund_goes_above_its_payment(
    office: Office, invoice: str
) -> None:
    order = {"amount": "1.00", "account": OURS, "booked_on": "2026-12-05"}
    body = order | {"key": "wire-1", "currency": "EUR", "text": REFERENCE}
    payment, again = (office.api.post("/admin/v1/payments", body) for _ in range(2))
    assert payment == again
    assert (payment["invoices"], payment["unmatched"]) == ([NUMBER], "0.00")
    refunds, refund = f"/admin/v1/payments/{payment['id']}/refunds", order | {"reason": "by mistake"}
    with pytest.raises(ApiRefused, match=r"1\.01 EUR is more than the 1\.00 that is left"):
        office.api.post(refunds, refund | {"key": "back-1", "amount": "1.01"})
    assert len({office.api.post(refunds, refund | {"key": "back-2"})["id"] for _ in range(2)}) == 1
    (row,) = office.api.get("/admin/v1/receivables", tenant="acme")
    assert (row["paid"], row["open"]) == ("3.00", "4.14")
    with pytest.raises(ApiRefused, match=r"we owe 0\.00 EUR, not 1\.00"):
        office.api.post(f"/admin/v1/invoices/{invoice}/payouts", refund | {"key": "out"})


def test_giving_up_takes_two_persons(office: Office, owner: Api, invoice: str, colleague: Api) -> None:
    with pytest.raises(ApiRefused, match=r"Only 4\.14 EUR"):
        office.api.post(f"/admin/v1/invoices/{invoice}/write-offs", {"amount": "4.15", "reason": "insolvent"})
    proposed = office.api.post(f"/admin/v1/invoices/{invoice}/write-offs", {"amount": "0.14", "reason": "insolvent"})
    path = f"/admin/v1/write-offs/{proposed['id']}"
    with pytest.raises(ApiRefused, match="another person has to approve"):
        office.api.post(f"{path}/approval")
    assert colleague.post(f"{path}/approval")["is_approved"] is True
    with pytest.raises(ApiRefused, match="approved by"):
        colleague.post(f"{path}/rejection")
    assert owner.get(f"/v1/invoices/{invoice}")["written_off"] == "0.14"
    withdrawn = office.api.post(f"/admin/v1/invoices/{invoice}/write-offs", {"reason": "all of it"})
    assert office.api.post(f"/admin/v1/write-offs/{withdrawn['id']}/rejection")["is_approved"] is False
    assert office.api.get("/admin/v1/write-offs", undecided="true") == []


def test_the_statement_leads_from_one_balance_to_the_next(owner: Api, invoice: str, office: Office) -> None:
    office.api.post("/admin/v1/tenants/acme/credits", {"kind": "promotion", "amount": "5.00", "reason": "a secret"})
    said = owner.get("/v1/statement", **{"from": "2026-01-01", "to": "2027-12-31"})
    assert said["opening"] == {"current": "0.00", "credit": "0.00"}
    (billed,) = [line for line in said["bookings"] if line["kind"] == "invoice"]
    assert (billed["document"], billed["amount"], billed["side"]) == (NUMBER, "7.14", "current")
    kinds = {line["kind"] for line in said["bookings"]}
    assert kinds == {"invoice", "payment", "payment_returned", "write_off", "credit_grant"}
    assert said["closing"] == {"current": "2.00", "credit": "5.00"}
    assert "a secret" not in json.dumps(said)
    later = owner.get("/v1/statement", **{"from": "2027-12-31", "to": "2027-12-31"})
    assert (later["opening"], later["bookings"]) == (said["closing"], [])


def test_another_tenant_sees_nothing_of_it(stranger: Api, invoice: str) -> None:
    assert stranger.get("/v1/invoices")["data"] == []
    assert stranger.get("/v1/balance")["data"] == []
    assert stranger.get("/v1/statement", **{"from": "2026-01-01", "to": "2027-12-31"})["bookings"] == []
    for path in ("", "/pdf"):
        with pytest.raises(ApiRefused, match="There is no"):
            stranger.get(f"/v1/invoices/{invoice}{path}")


@pytest.mark.parametrize("path", ["/v1/balance", "/v1/invoices", "/v1/statement", "/admin/v1/payments"])
def test_money_is_for_those_who_may_see_it(office: Office, path: str) -> None:
    assert office.status_with("nobody", path) == 401
    assert office.status_with(office.customer_key, path) == 403


def test_developers_do_not_see_the_tenants_money() -> None:
    having = {role for role in Role if Permission.ACCOUNT in permissions.in_tenant([role])}
    assert having == {Role.OWNER, Role.FINANCE, Role.AUDITOR}


def stripe(office: Office, event: dict[str, Any], *, secret: str = STRIPE_SECRET, age: int = 0) -> httpx.Response:
    body, at = json.dumps(event).encode(), int(time.time()) - age
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"stripe-signature": f"t={at},v1={'0' * 64},v1={signature}"}
    return httpx.post(f"{office.gateway.url}/v1/webhooks/stripe", content=body, headers=headers, trust_env=False)


def event(type: str, **object: Any) -> dict[str, Any]:
    return {"id": "evt_1", "type": type, "created": int(time.time()), "data": {"object": {"currency": "eur", **object}}}


def test_stripes_messages_are_booked_once_in_any_order(office: Office, owner: Api, tenant_id: UUID) -> None:
    reference = payment_reference.of_tenant(tenant_id)
    paid = event("payment_intent.succeeded", id="pi_1", amount_received=1234, metadata={"reference": reference})
    refunded = event("charge.refunded", id="ch_1", payment_intent="pi_1", amount_refunded=1000)
    early = stripe(office, refunded)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "payment_unknown")
    assert [stripe(office, paid).json()["result"] for _ in range(2)] == ["booked", "known"]
    (balance,) = owner.get("/v1/balance")["data"]
    assert balance["credit_prepaid"] == "12.34"
    partly = event("charge.refunded", id="ch_1", payment_intent="pi_1", amount_refunded=400)
    assert [stripe(office, one).json()["result"] for one in (refunded, partly, refunded)] == [
        "booked",
        "known",
        "known",
    ]
    (balance,) = owner.get("/v1/balance")["data"]
    assert balance["credit_prepaid"] == "2.34"
    above = stripe(office, event("charge.refunded", id="ch_1", payment_intent="pi_1", amount_refunded=1235))
    assert above.json()["error"]["code"] == "more_than_paid"
    assert stripe(office, event("customer.created")).json()["result"] == "ignored"


def test_a_message_that_is_not_stripes_books_nothing(office: Office) -> None:
    forged = event("payment_intent.succeeded", id="pi_2", amount_received=100)
    answers = [
        stripe(office, forged, secret="another"),
        stripe(office, forged, age=3600),
        httpx.post(f"{office.gateway.url}/v1/webhooks/stripe", json=forged, trust_env=False),
    ]
    assert [(one.status_code, one.json()["error"]["code"]) for one in answers] == [(400, "signature_invalid")] * 3
    for wrong in ({"currency": "usd"}, {"amount_received": "much"}, {"amount_received": -1}):
        answer = stripe(office, event("payment_intent.succeeded", **{"id": "pi_2", "amount_received": 100} | wrong))
        assert answer.status_code == 400, answer.text
    assert not [
        one for one in office.api.get("/admin/v1/payments") if one["source"] == "stripe" and one["amount"] == "1.00"
    ]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("imports", {"name": "x", "content": "PG5vPg=="}, "no well-formed XML"),
        ("imports", {"name": "x", "content": ""}, "missing: account"),
        ("", {"account": "DE00"}, "at least 5"),
        ("", {"account": "DE0000000"}, "belongs to no legal entity"),
        ("", {"amount": "-1.00"}, "greater than 0"),
        ("", {"currency": "RMB"}, "write CNY"),
        ("pay_0/matches", {"reason": "x", "outside": True}, "no well-formed id"),
        (f"pay_{'0' * 32}/matches", {"reason": "x", "outside": True}, "no payment"),
        (f"pay_{'0' * 32}/matches", {"reason": "x"}, "Say one of"),
    ],
)
def test_what_makes_no_sense_is_refused(office: Office, path: str, body: dict[str, Any], words: str) -> None:
    whole = {"amount": "1.00", "currency": "EUR", "account": OURS, "key": "k", "booked_on": "2026-12-01"}
    with pytest.raises(ApiRefused, match=words):
        office.api.post(f"/admin/v1/payments/{path}".rstrip("/"), body if path else whole | body)
