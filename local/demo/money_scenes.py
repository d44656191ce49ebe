"""The scenes of money: from usage events to final invoices, each compared with what an auditor computes alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from local.api import ApiRefused
from local.bootstrap import EMBEDDED
from local.demo.cast import DAGSTER_SECONDS, Customer, Demo
from local.demo.story import Facts, Say, expect, wait_until
from local.seal import seal_window
from studio import clock, ids


def events_are_exact(demo: Demo, say: Say) -> Facts:
    """Every request is in PostgreSQL once, and the events equal the engines' own counters token for token."""
    auditor = demo.auditor
    for customer in demo.customers:

        def shipped(customer: Customer = customer) -> bool:
            return auditor.events_of_key(customer.key_prefix)[0] >= customer.requests

        wait_until(shipped, f"not all of the {customer.requests} requests arrived in usage_events", 30)
        events, distinct = auditor.events_of_key(customer.key_prefix)
        expect(events == distinct == customer.requests, f"{customer.requests} requests gave {events} events")

    def agree() -> bool:
        totals = auditor.engine_totals()
        is_whole = all(auditor.events_after_counters(customer.key_prefix) == 0 for customer in demo.customers)
        return is_whole and len(totals) >= len(EMBEDDED) and all(total.agree for total in totals)

    wait_until(agree, f"events and engine counters differ: {auditor.engine_totals()}", 30)
    requests = " + ".join(f"{customer.requests} of {customer.slug}" for customer in demo.customers)
    return {"requests": f"{requests}, each exactly once", **_by_variant(demo)}


def _by_variant(demo: Demo) -> Facts:
    """All engines that ran here."""
    totals = demo.auditor.engine_totals()
    facts = {}
    for variant in dict.fromkeys(total.variant for total in totals):
        own = [total for total in totals if total.variant == variant]
        facts[variant] = (
            f"{len(own)} engine{'s' * (len(own) > 1)}:"
            f" {sum(total.engine_prompt for total in own)} + {sum(total.engine_completion for total in own)} tokens"
            f" = events {sum(total.events_prompt for total in own)} + {sum(total.events_completion for total in own)}"
        )
        if unbilled := sum(total.unbilled for total in own):
            facts[variant] += f", and {unbilled} that a killed process had in flight"
    return facts


def usage_is_rated(demo: Demo, say: Say) -> Facts:
    """The windows are sealed now instead of tomorrow; Dagster counts, rates and reconciles them."""
    facts = {}
    for customer in demo.customers:
        seals = [seal for day in _recent_days() if (seal := _seal(demo, customer, day, say)) is not None]
        expect(seals, f"there was nothing to seal for {customer.slug}")
        for seal in seals:
            facts[f"{customer.slug}, window {seal['window']}"] = f"seal {seal['seal_no']}, {seal['events']} events"
    for customer in demo.customers:

        def reconciled(customer: Customer = customer) -> bool:
            states = {seal["state"] for seal in demo.api.get("/admin/v1/usage/windows", tenant=customer.slug)}
            expect("held" not in states, "a window is held: see the failed check in Dagster")
            say(f"{customer.slug}: Dagster is at {', '.join(sorted(states - {'reconciled'})) or 'reconciled'}")
            return states == {"reconciled"}

        wait_until(reconciled, "Dagster did not reconcile the window; see its runs", DAGSTER_SECONDS)
    return facts


def _seal(demo: Demo, customer: Customer, day: date, say: Say) -> Mapping[str, Any] | None:
    try:
        return seal_window(demo.api, day, customer.slug, "demonstration: an invoice today", say)
    except ApiRefused as error:
        expect(error.code == "nothing_to_seal", str(error))
        return None


def _recent_days() -> tuple[date, date]:
    """Yesterday and today in Berlin: a demo may run across midnight."""
    today = clock.now().astimezone(clock.BERLIN).date()
    return today - timedelta(days=1), today


def invoices_are_drafted(demo: Demo, say: Say) -> Facts:
    """Dagster drafts an invoice for each customer; its total is computed again here, from raw events and prices."""
    facts = {}
    orders = [(customer, _order(demo, customer)) for customer in demo.customers]
    for customer, order in orders:
        _await_draft(demo, customer, order)
        invoice = customer.invoice
        again = demo.auditor.recompute(ids.from_wire(ids.INVOICE, invoice["id"]), Decimal(invoice["tax_rate"]))
        exact = sum((Decimal(line["exact"]) for line in invoice["lines"]), Decimal(0))
        expect(invoice["currency"] == customer.currency, f"the invoice is in {invoice['currency']}")
        expect(exact == again.exact, f"the lines say {exact}, the events {again.exact}")
        expect(Decimal(invoice["net"]) == again.net, f"net {invoice['net']} is not {again.net}")
        expect(Decimal(invoice["gross"]) == again.gross, f"gross {invoice['gross']} is not {again.gross}")
        facts[customer.slug] = (
            f"{again.events} events, {again.tokens} tokens, exactly {again.exact:f} {customer.currency};"
            f" invoice: net {invoice['net']} + tax {invoice['tax']} = {invoice['gross']} (equal)"
        )
    return facts


def _order(demo: Demo, customer: Customer) -> str:
    month = f"{clock.now().astimezone(clock.zone(customer.time_zone)):%Y-%m}"
    body = {"tenant": customer.slug, "month": month, "reason": "demonstration: an invoice today"}
    return str(demo.api.post("/admin/v1/invoices/orders", body)["id"])


def _await_draft(demo: Demo, customer: Customer, order: str) -> None:
    def drafted() -> bool:
        answer = demo.api.get(f"/admin/v1/invoices/orders/{order}")
        expect(answer["answer"] is None or answer["invoice_id"], f"no invoice: {answer['answer']}")
        if answer["invoice_id"]:
            customer.invoice = demo.api.get(f"/admin/v1/invoices/{answer['invoice_id']}")
        return bool(answer["invoice_id"])

    wait_until(drafted, "Dagster did not draft the invoice; see its runs", DAGSTER_SECONDS)


def invoices_are_final(demo: Demo, say: Say) -> Facts:
    """One person reviews the totals, another approves them; Dagster numbers the invoices, books and renders them."""
    colleague = demo.colleague()
    for customer in demo.customers:
        path, total = f"/admin/v1/invoices/{customer.invoice['id']}", {"expected_gross": customer.invoice["gross"]}
        expect(_refused(demo, f"{path}/approvals", total) == "review_missing", "approved without a review")
        demo.api.post(f"{path}/reviews", total)
        expect(_refused(demo, f"{path}/approvals", total) == "same_person", "the reviewer alone could approve")
        colleague.post(f"{path}/approvals", total)
    facts = {customer.slug: _await_document(demo, customer) for customer in demo.customers}
    return facts | {f"ledger, {customer.slug}": _booked(demo, customer) for customer in demo.customers}


def _refused(demo: Demo, path: str, body: Mapping[str, Any]) -> str | None:
    """The code of the refusal, or None."""
    try:
        demo.api.post(path, body)
    except ApiRefused as error:
        return error.code
    return None


def _booked(demo: Demo, customer: Customer) -> str:
    """The invoice in the ledger: as it is printed, exact in between, and zero together."""
    invoice = customer.invoice
    booked = demo.auditor.booked(ids.from_wire(ids.INVOICE, invoice["id"]))
    exact = sum((Decimal(line["exact"]) for line in invoice["lines"]), Decimal(0))
    expected = {
        "receivable": Decimal(invoice["gross"]),
        "revenue": -exact,
        "rounding": exact - Decimal(invoice["net"]),
        "vat_payable": -Decimal(invoice["tax"]),
    }
    expect(booked == {kind: amount for kind, amount in expected.items() if amount}, f"the ledger says {booked}")
    expect(sum(booked.values()) == 0, f"the ledger is off by {sum(booked.values())}")
    return (
        f"receivable {invoice['gross']} = revenue {exact:f} + rounding {Decimal(invoice['net']) - exact:f}"
        f" + VAT {invoice['tax']} {customer.currency}, together 0"
    )


def _await_document(demo: Demo, customer: Customer) -> str:
    path = f"/admin/v1/invoices/{customer.invoice['id']}"

    def rendered() -> bool:
        customer.invoice = demo.api.get(path)
        return bool(customer.invoice["has_document"])

    wait_until(rendered, "Dagster did not finalise the invoice; see its runs", DAGSTER_SECONDS)
    pdf = demo.api.download(f"{path}/document")
    expect(pdf.startswith(b"%PDF-"), "the document is no PDF")
    target = demo.invoice_path(customer)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(pdf)
    return f"{customer.invoice['number']}, PDF {target}, SHA-256 {hashlib.sha256(pdf).hexdigest()[:16]}..."
