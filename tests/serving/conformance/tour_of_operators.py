"""What operators and finance can do, once each, and the people who sign in by a link."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import httpx

from billing import invoice_booking, payment_reference
from billing.documents.snapshot import sha256_of, to_json
from studio import clock, ids
from studio.db.sessions import engine_for, unit_of_work
from studio.objects import Bucket
from tests.admin.conftest import STRIPE_SECRET
from tests.admin.test_corrections import FINAL_INVOICE, LINES, MAKE_FINAL
from tests.billing import statements
from tests.billing.documents.samples import SAMPLES
from tests.billing.statements import OURS, Line
from tests.serving.conformance.tour import Tour
from tests.serving.gateway_process import CHAT, EMBEDDING
from tests.stub_engine import StubEngine

ACME, OTHER = {"slug": "acme"}, {"slug": "elsewhere"}  # limits and budgets are set for the one that asks for nothing
BECAUSE = {"reason": "tour"}


def walk(tour: Tour, spare: StubEngine) -> None:
    """All of it."""
    _tenants(tour)
    _people(tour)
    _fleet(tour, spare)
    _prices(tour)
    _invoices(tour)
    _money(tour)
    _usage(tour)


def _tenants(tour: Tour) -> None:
    buyer = {"name": "Elsewhere", "country": "DE", "street": "Weg 1", "postcode": "10115", "city": "Berlin"}
    buyer["email"] = "ap@elsewhere.example"
    tenant = {"slug": "elsewhere", "name": "E", "legal_entity": "xpulink-de", "currency": "EUR", "buyer": buyer}
    tour.ask("POST /admin/v1/tenants", json=tenant)
    tour.ask("GET /admin/v1/tenants")
    key = tour.ask("POST /admin/v1/tenants/{slug}/keys", OTHER, json={"name": "tour"})
    tour.ask("GET /admin/v1/tenants/{slug}/keys", OTHER)
    tour.ask("DELETE /admin/v1/keys/{key_id}", {"key_id": key["id"]})
    tour.ask("PUT /admin/v1/tenants/{slug}/limits", OTHER, json={"requests_per_minute": 10})
    tour.ask("GET /admin/v1/tenants/{slug}/limits", OTHER)
    tour.ask("DELETE /admin/v1/tenants/{slug}/limits", OTHER)
    tour.ask("PUT /admin/v1/tenants/{slug}/budgets", OTHER, json={"kind": "monthly", "amount": "5"})
    tour.ask("GET /admin/v1/tenants/{slug}/budgets", OTHER)
    tour.ask("DELETE /admin/v1/tenants/{slug}/budgets/{kind}", OTHER | {"kind": "monthly"})
    terms = {"valid_from": "2040-01-01", "payment_days": 7, **BECAUSE}
    tour.ask("POST /admin/v1/tenants/{slug}/terms", OTHER, json=terms)
    tour.ask("GET /admin/v1/tenants/{slug}", OTHER)
    tour.ask("POST /admin/v1/tenants/{slug}/close", OTHER)
    tour.ask("POST /admin/v1/tenants/{slug}/reopen", OTHER)


def _people(tour: Tour) -> None:
    order = {"name": "laptop", "tenants": ["acme", "elsewhere"], "roles": ["owner"]}
    token = tour.ask("POST /admin/v1/signin-links", json=order)["url"].partition("#link=")[2]
    same = {"sec-fetch-site": "same-origin"}
    cookie = tour.ask("POST /auth/link", by="nobody", json={"token": token}, headers=same).headers["set-cookie"]
    session = {"cookie": cookie.partition(";")[0]}
    person = tour.ask("GET /auth/session", by="nobody", headers=session, until=True)["person"]
    proof = session | same | {"x-csrf-token": person["csrf_token"]}
    chosen = tour.ask("POST /auth/session/tenant", by="nobody", json={"tenant": "acme"}, headers=proof)
    assert chosen["tenant"] == "acme"
    tour.ask("POST /auth/logout", by="nobody", headers=proof)
    user = {"user": person["user_id"]}
    tour.ask("GET /admin/v1/users")
    role = {"role": "developer", "tenant": "acme"}
    membership = tour.ask("POST /admin/v1/users/{user}/memberships", user, json=role)
    tour.ask("DELETE /admin/v1/memberships/{membership_id}", {"membership_id": membership["id"]})
    tour.ask("DELETE /admin/v1/users/{user}/sessions", user)


def _fleet(tour: Tour, spare: StubEngine) -> None:
    tour.ask("GET /admin/v1/fleet")
    replica = tour.ask("POST /admin/v1/fleet/replicas", json={"model": EMBEDDING, "url": spare.url})
    tour.ask("DELETE /admin/v1/fleet/replicas/{replica_id}", {"replica_id": replica["id"]})
    tour.ask("GET /admin/v1/fleet/hours")
    override = tour.ask("POST /admin/v1/fleet/overrides", json={"model": CHAT, **BECAUSE})
    tour.ask("DELETE /admin/v1/fleet/overrides/{override_id}", {"override_id": override["id"]})
    tour.ask("PUT /admin/v1/clock", json={"offset_seconds": 60})
    tour.ask("DELETE /admin/v1/clock")
    tour.ask("GET /admin/v1/slo")
    tour.ask("GET /admin/v1/slo/{month}", {"month": "2026-11"})
    contents = {"config.json": b"{}", "model.safetensors": b"weights"}
    files = [
        {"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in contents.items()
    ]
    model = {"model": CHAT}
    plan = tour.ask("POST /admin/v1/models/{model}/weights/uploads", model, json={"files": files})
    for one in plan["uploads"]:
        httpx.put(one["url"], content=contents[one["path"]]).raise_for_status()
    tour.ask("POST /admin/v1/models/{model}/weights/publish", model, json={"files": files})


def _prices(tour: Tour) -> None:
    price = {"model": CHAT, "unit": "prompt", "per_million": "0.01", "tiers": [], **BECAUSE}
    own = OTHER | {"price_id": tour.ask("POST /admin/v1/tenants/{slug}/prices", OTHER, json=price)["id"]}
    tour.ask("GET /admin/v1/tenants/{slug}/prices", OTHER)
    end = {"valid_until": "2099-01-01T00:00:00Z"}
    tour.ask("POST /admin/v1/tenants/{slug}/prices/{price_id}/end", own, json=end)
    commitment = {"amount": "5000", "valid_from": "2098-12", **BECAUSE}
    made = tour.ask("POST /admin/v1/tenants/{slug}/commitments", OTHER, json=commitment)
    tour.ask("GET /admin/v1/tenants/{slug}/commitments", OTHER)
    ends = OTHER | {"commitment_id": made["id"]}
    tour.ask("POST /admin/v1/tenants/{slug}/commitments/{commitment_id}/end", ends, json={"valid_until": "2099-03"})
    tour.ask("POST /admin/v1/tenants/{slug}/prices", OTHER, json=price | {"model": "gpu", "unit": "gpu_hour"})
    cards = tour.ask("POST /admin/v1/tenants/{slug}/card-reservations", OTHER, json={"cards": 2, **BECAUSE})
    tour.ask("GET /admin/v1/tenants/{slug}/card-reservations", OTHER)
    given = OTHER | {"reservation_id": cards["id"]}
    tour.ask("POST /admin/v1/tenants/{slug}/card-reservations/{reservation_id}/end", given, json=end)


def _invoice(tour: Tour) -> dict[str, str]:
    return {"invoice_id": ids.to_wire(ids.INVOICE, tour.put(FINAL_INVOICE))}


def _invoices(tour: Tour) -> None:
    final = _invoice(tour)
    with tour.house.database.superuser() as connection:
        connection.execute(LINES)
        connection.execute(MAKE_FINAL)
    _documents(tour, ids.from_wire(ids.INVOICE, final["invoice_id"]).hex)
    worker = engine_for(tour.house.database.url("worker"))
    with unit_of_work(worker) as session:
        invoice_booking.book_missing(session)
    worker.dispose()
    draft, dropped, total = _invoice(tour), _invoice(tour), {"expected_gross": "7.14"}
    tour.ask("GET /admin/v1/invoices/open")
    tour.ask("GET /admin/v1/invoices")
    tour.ask("GET /admin/v1/invoices/{invoice_id}", final)
    tour.ask("GET /admin/v1/invoices/{invoice_id}/document", final)
    tour.ask("POST /admin/v1/invoices/{invoice_id}/void", dropped, json=BECAUSE)
    tour.ask("POST /admin/v1/invoices/{invoice_id}/reviews", draft, json=total)
    tour.ask("POST /admin/v1/invoices/{invoice_id}/approvals", draft, json=total, by="colleague")
    hold = {"hold_id": tour.ask("POST /admin/v1/tenants/{slug}/holds", ACME, json=BECAUSE)["id"]}
    tour.ask("GET /admin/v1/holds")
    tour.ask("POST /admin/v1/holds/{hold_id}/release", hold, json=BECAUSE)
    order = {"tenant": "acme", "month": "2026-10", **BECAUSE}
    asked = tour.ask("POST /admin/v1/invoices/orders", json=order)
    tour.ask("GET /admin/v1/invoices/orders/{order_id}", {"order_id": asked["id"]})
    body = {"kind": "credit_note", "lines": [{"line_no": 2, "amount": "0.50"}], **BECAUSE}
    made = tour.ask("POST /admin/v1/invoices/{invoice_id}/corrections", final, json=body)
    tour.ask("GET /admin/v1/invoices/{invoice_id}/corrections", final)
    outdated = tour.ask("POST /admin/v1/invoices/{invoice_id}/corrections", final, json=body)
    tour.ask("POST /admin/v1/corrections/{correction_id}/void", {"correction_id": outdated["id"]}, json=BECAUSE)
    correction, total = {"correction_id": made["id"]}, {"expected_gross": made["gross"]}
    tour.ask("GET /admin/v1/corrections/{correction_id}", correction)
    tour.ask("POST /admin/v1/corrections/{correction_id}/reviews", correction, json=total)
    tour.ask("POST /admin/v1/corrections/{correction_id}/approvals", correction, json=total, by="colleague")
    tour.ask("GET /v1/invoices")
    tour.ask("GET /v1/invoices/{invoice_id}", final)
    tour.ask("GET /v1/invoice-documents")
    tour.ask("GET /v1/invoice-documents/{invoice_id}/{format}", final | {"format": "pdf"})
    tour.reached["of payments"] = final


def _documents(tour: Tour, invoice: str) -> None:
    content = to_json(SAMPLES["domestic"])
    tour.put(
        "insert into document_snapshots (id, tenant_id, invoice_id, content, sha256)"
        " values (%s, %s, %s, %s, %s) returning id",
        invoice, tour.house.tenant_id, invoice, content, sha256_of(content),
    )  # fmt: skip
    tour.store.put(Bucket.INVOICES, "tour.pdf", b"%PDF-1.7")
    tour.put(
        "insert into invoice_documents (invoice_id, kind, object_key, sha256, size_bytes)"
        " values (%s, 'pdf', 'tour.pdf', '', 1) returning invoice_id",
        invoice,
    )


def _money(tour: Tour) -> None:
    final = tour.reached.pop("of payments")
    credit = {"kind": "promotion", "amount": "5.00", **BECAUSE}
    tour.ask("POST /admin/v1/tenants/{slug}/credits", OTHER, json=credit)
    tour.ask("GET /admin/v1/tenants/{slug}/credits", OTHER)
    first, second = (
        {"request_id": tour.ask("POST /admin/v1/tenants/{slug}/credit-requests", OTHER, json=credit)["id"]}
        for _ in range(2)
    )
    tour.ask("POST /admin/v1/credit-requests/{request_id}/approvals", first, by="colleague")
    tour.ask("POST /admin/v1/credit-requests/{request_id}/declines", second, by="colleague", json=BECAUSE)
    moved: dict[str, Any] = {"amount": "1.00", "account": OURS, "booked_on": "2026-12-05"}
    payment = {"payment_id": tour.ask("POST /admin/v1/payments", json=moved | {"key": "in", "currency": "EUR"})["id"]}
    file = base64.b64encode(statements.camt(Line("2.00", "thanks", reference="1"))).decode()
    tour.ask("POST /admin/v1/payments/imports", json={"name": "tour", "content": file})
    tour.ask("GET /admin/v1/payments")
    paid = {"invoices": [{"invoice_id": final["invoice_id"], "amount": "1.00"}], **BECAUSE}
    tour.ask("POST /admin/v1/payments/{payment_id}/matches", payment, json=paid)
    tour.ask("POST /admin/v1/payments/{payment_id}/unmatch", payment, json=BECAUSE)
    tour.ask("POST /admin/v1/payments/{payment_id}/refunds", payment, json=moved | {"key": "out", **BECAUSE})
    for path in ("receivables", "receivables/ageing", "receivables/reminders"):
        tour.ask(f"GET /admin/v1/{path}")
    proposal = "POST /admin/v1/invoices/{invoice_id}/write-offs"
    for answer in ("approval", "rejection"):
        given_up = tour.ask(proposal, final, json={"amount": "0.10", **BECAUSE})
        one = {"write_off_id": given_up["id"]}
        tour.ask(f"POST /admin/v1/write-offs/{{write_off_id}}/{answer}", one, by="colleague")
    tour.ask("GET /admin/v1/write-offs")
    for path in ("balances", "transactions", "verification"):
        tour.ask(f"GET /admin/v1/ledger/{path}")
    tour.ask("GET /admin/v1/rerates/{month}", {"month": "2026-10"})
    told = {"id": "pi_1", "amount_received": 100, "currency": "eur"}
    told["metadata"] = {"reference": payment_reference.of_tenant(tour.house.tenant_id)}
    now = int(time.time())
    event = {"id": "evt_1", "type": "payment_intent.succeeded", "created": now, "data": {"object": told}}
    body = json.dumps(event).encode()
    signature = hmac.new(STRIPE_SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    signed = {"stripe-signature": f"t={now},v1={signature}", "content-type": "application/json"}
    tour.ask("POST /v1/webhooks/stripe", by="nobody", content=body, headers=signed)


def _usage(tour: Tour) -> None:
    entry = tour.put(
        "insert into quarantine (reason, tenant_id, payload) values ('tour', %s, '{}') returning id",
        tour.house.tenant_id,
    )
    tour.ask("GET /admin/v1/usage/quarantine")
    decision = {"decision": "discarded", **BECAUSE}
    tour.ask("POST /admin/v1/usage/quarantine/{entry}/decision", {"entry": str(entry)}, json=decision)
    tour.ask("GET /admin/v1/usage/windows", params={"tenant": "acme"})
    now = clock.now()
    window = {"window": str(now.astimezone(clock.BERLIN).date())}
    seal = {"tenant": "acme", "cutoff": now.isoformat(), **BECAUSE}
    tour.ask("POST /admin/v1/usage/windows/{window}/seals", window, json=seal, until=True)
