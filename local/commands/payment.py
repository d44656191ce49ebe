"""`studio payment`: money that came in and went back."""

from __future__ import annotations

import base64
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from local.api import Api
from local.output import AsJson, show, show_rows
from studio import clock

app = typer.Typer(no_args_is_help=True, help="Money in.")


class Equal(StrEnum):
    """What transfers are that look like booked ones."""

    SAME = "same"
    ANOTHER = "another"


Account = Annotated[str, typer.Option(help="Ours, such as DE02120300000000202051.")]
Key = Annotated[str, typer.Option(help="The bank's reference: the same key is carried out once.")]
Reason = Annotated[str, typer.Option(help="Why.")]
BookedOn = Annotated[str | None, typer.Option(help="Day on which the bank booked it; today when left out.")]


@app.command()
def record(
    amount: str,
    account: Account,
    key: Key,
    text: Annotated[str, typer.Option(help="What the payer wrote, such as a reference.")] = "",
    currency: Annotated[str, typer.Option(help="EUR or CNY.")] = "EUR",
    payer: Annotated[str | None, typer.Option(help="Who paid.")] = None,
    booked_on: BookedOn = None,
    as_json: AsJson = False,
) -> None:
    """Record money that came in past the bank's files."""
    body = _movement(amount, account, key, booked_on) | {"currency": currency, "text": text, "payer": payer}
    _say(Api.from_environment().post("/admin/v1/payments", body), as_json)


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="CAMT.053 or CSV.", exists=True, dir_okay=False)],
    equal: Annotated[
        Equal | None, typer.Option(help="Transfers that look like booked ones: the same, or more money?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import a bank statement, whole or not at all. Again, or overlapping, it books nothing twice."""
    body = {"name": file.name, "content": base64.b64encode(file.read_bytes()).decode()}
    if equal is not None:
        body["equal"] = equal.value
    done = Api.from_environment().post("/admin/v1/payments/imports", body)
    sentence = (
        f"{done['entries']} entries: {done['booked']} booked ({done['matched']} matched), {done['known']} known,"
        f" {done['ignored']} ignored."
    )
    if done["booked"] > done["matched"]:
        sentence += " See `studio payment list --waiting`."
    show(done, as_json, f"This file was imported before. {sentence}" if done["is_repeated"] else sentence)


@app.command(name="list")
def list_(
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what waits for a person.")] = False,
    tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """List payments, newest first."""
    query = {"waiting": "true" if waiting else "false"} | ({"tenant": tenant} if tenant else {})
    rows = Api.from_environment().get("/admin/v1/payments", **query)
    last = ("why",) if waiting else ("tenant", "invoices")
    show_rows(rows, as_json, ("id", "booked_on", "amount", "currency", "unmatched", "payer", "text", *last))


@app.command()
def match(
    payment: str,
    reason: Reason,
    invoice: Annotated[
        list[str] | None, typer.Option(help="An invoice (inv_...), or inv_...=12.00; again for each.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose the rest is.")] = None,
    top_up: Annotated[bool, typer.Option("--top-up", help="The rest becomes credit.")] = False,
    returns: Annotated[str | None, typer.Option(help="The payment (pay_...) that the bank took back.")] = None,
    outside: Annotated[bool, typer.Option("--outside", help="No customer's money.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a payment is for."""
    invoices = [_paid(text) for text in invoice or []]
    body = {"invoices": invoices, "tenant": tenant, "top_up": top_up, "returns": returns, "outside": outside}
    _say(Api.from_environment().post(f"/admin/v1/payments/{payment}/matches", body | {"reason": reason}), as_json)


@app.command()
def unmatch(payment: str, reason: Reason, as_json: AsJson = False) -> None:
    """Take back what a payment was for: it waits again."""
    _say(Api.from_environment().post(f"/admin/v1/payments/{payment}/unmatch", {"reason": reason}), as_json)


@app.command()
def refund(
    payment: str,
    amount: str,
    account: Account,
    key: Key,
    reason: Reason,
    booked_on: BookedOn = None,
    as_json: AsJson = False,
) -> None:
    """Record that a payment was sent back, or a part of it: what it had paid is open again."""
    body = _movement(amount, account, key, booked_on) | {"reason": reason}
    _say(Api.from_environment().post(f"/admin/v1/payments/{payment}/refunds", body), as_json)


@app.command()
def payout(
    invoice: str,
    amount: str,
    account: Account,
    key: Key,
    reason: Reason,
    booked_on: BookedOn = None,
    as_json: AsJson = False,
) -> None:
    """Record that we paid out what an invoice had become negative by."""
    body = _movement(amount, account, key, booked_on) | {"reason": reason}
    _say(Api.from_environment().post(f"/admin/v1/invoices/{invoice}/payouts", body), as_json)


def _movement(amount: str, account: str, key: str, booked_on: str | None) -> dict[str, Any]:
    day = booked_on or clock.now().astimezone().date().isoformat()  # here: the day of who types it
    return {"amount": amount, "account": account, "key": key, "booked_on": day}


def _paid(text: str) -> dict[str, str | None]:
    invoice_id, equals, amount = text.partition("=")
    return {"invoice_id": invoice_id, "amount": amount if equals else None}


def _say(payment: Any, as_json: bool) -> None:
    paid = ", ".join(payment["invoices"])
    sentence = f"{payment['id']}: {payment['amount']} {payment['currency']}" + (f" for {paid}" if paid else "")
    if payment["why"]:
        sentence += f"; {payment['unmatched']} waits. {payment['why']}"
    show(payment, as_json, sentence)
