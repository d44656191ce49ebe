"""`studio receivable`: what customers owe, how old it is, and what is given up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="What customers owe.")


@app.command(name="list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None,
    unsettled: Annotated[bool, typer.Option("--unsettled", help="Only what is open, or what we owe.")] = False,
    as_json: AsJson = False,
) -> None:
    """Final invoices with their payment state, newest first."""
    query = {"unsettled": "true" if unsettled else "false"} | ({"tenant": tenant} if tenant else {})
    rows = Api.from_environment().get("/admin/v1/receivables", **query)
    show_rows(rows, as_json, ("invoice_id", "tenant", "number", "state", "due_on", "gross", "paid", "open", "currency"))


@app.command()
def ageing(as_json: AsJson = False) -> None:
    """What each tenant owes, by days after the due date."""
    rows = Api.from_environment().get("/admin/v1/receivables/ageing")
    buckets = ("not_due", "days_1_30", "days_31_60", "days_61_90", "days_over_90")
    show_rows(rows, as_json, ("tenant", "currency", *buckets, "total", "owed_by_us"))


@app.command()
def reminders(as_json: AsJson = False) -> None:
    """Reminders, and which of them were mailed."""
    rows = Api.from_environment().get("/admin/v1/receivables/reminders")
    show_rows(
        rows, as_json, ("number", "tenant", "level", "name", "amount", "currency", "due_on", "proposed_on", "mailed_at")
    )


@app.command()
def write_off(
    invoice: str,
    reason: Annotated[str, typer.Option(help="Why it will not be paid.")],
    amount: Annotated[str | None, typer.Option(help="All that is open when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Propose to give up what an invoice owes. Another person has to approve."""
    body = {"reason": reason, "amount": amount}
    _say(Api.from_environment().post(f"/admin/v1/invoices/{invoice}/write-offs", body), as_json)


@app.command()
def write_offs(as_json: AsJson = False) -> None:
    """List write-offs, newest first."""
    rows = Api.from_environment().get("/admin/v1/write-offs")
    show_rows(
        rows, as_json, ("id", "number", "amount", "currency", "reason", "proposed_by", "is_approved", "decided_by")
    )


@app.command()
def approve(write_off: str, as_json: AsJson = False) -> None:
    """Approve a write-off (wof_...) that somebody else proposed."""
    _say(Api.from_environment().post(f"/admin/v1/write-offs/{write_off}/approval"), as_json)


@app.command()
def reject(write_off: str, as_json: AsJson = False) -> None:
    """Reject a write-off (wof_...)."""
    _say(Api.from_environment().post(f"/admin/v1/write-offs/{write_off}/rejection"), as_json)


def _say(row: Any, as_json: bool) -> None:
    decided = {None: "proposed; another person approves it", True: "approved and booked", False: "rejected"}
    sentence = f"{row['id']}: {row['amount']} {row['currency']} of {row['number']} {decided[row['is_approved']]}."
    show(row, as_json, sentence)
