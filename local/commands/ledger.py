"""`studio ledger`: what is booked, and the proof that nobody changed it."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, console, show, show_rows

app = typer.Typer(no_args_is_help=True, help="The double-entry ledger.")


@app.command()
def balances(as_json: AsJson = False) -> None:
    """What stands in each kind of account, exact. Debit is positive."""
    rows = Api.from_environment().get("/admin/v1/ledger/balances")
    show_rows(rows, as_json, ("legal_entity", "currency", "kind", "detail", "tenants", "amount"))


@app.command(name="list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None,
    subject: Annotated[str | None, typer.Option(help="About one invoice (inv_...) or lot of credit (crd_...).")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest transactions, with all their entries."""
    query = {name: value for name, value in (("tenant", tenant), ("subject", subject)) if value is not None}
    transactions = Api.from_environment().get("/admin/v1/ledger/transactions", **query)
    if as_json:
        show(transactions, True, "")
        return
    for booked in transactions:
        console.print(
            f"{booked['booked_on']} {booked['kind']} {booked['subject']}, {booked['description']}"
            f" (by {booked['booked_by']}, {booked['id']})",
            highlight=False,
        )
        show_rows(booked["entries"], False, ("account", "detail", "line_no", "amount", "currency"))


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Compute the chain of hashes anew. Ends with 1, and names the first day, if a closed day was changed."""
    said = Api.from_environment().get("/admin/v1/ledger/verification")
    days = f"{said['closed_days']} closed days with {said['transactions']} transactions"
    if said["holds"]:
        show(said, as_json, f"{days} are as they were closed. Newest link: {said['head']}")
    else:
        show(said, as_json, f"{days}; the first that does not hold is {said['first_broken_day']}: {said['why']}.")
        raise typer.Exit(1)
