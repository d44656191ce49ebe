"""`studio invoice`: order, look at, approve and fetch invoices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, console, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Invoices.")


@app.command(name="list")
def list_(tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None, as_json: AsJson = False) -> None:
    """List invoices, newest first."""
    rows = Api.from_environment().get("/admin/v1/invoices", **({"tenant": tenant} if tenant else {}))
    show_rows(rows, as_json, ("id", "tenant", "state", "number", "month", "currency", "net", "tax", "gross"))


@app.command(name="show")
def show_(invoice_id: str, as_json: AsJson = False) -> None:
    """Show an invoice with its lines."""
    invoice = Api.from_environment().get(f"/admin/v1/invoices/{invoice_id}")
    if as_json:
        show(invoice, True, "")
        return
    number = invoice["number"] or "draft"
    console.print(f"{number} for {invoice['tenant']}, {invoice['period_from']} to {invoice['period_until']}")
    show_rows(invoice["lines"], False, ("line_no", "model", "explanation", "exact", "amount"))
    totals = f"net {invoice['net']} + tax {invoice['tax']} = {invoice['gross']} {invoice['currency']}"
    console.print(totals, highlight=False)
    if invoice["prepaid"] != "0.00":
        console.print(f"{invoice['prepaid']} of it paid from credit", highlight=False)


@app.command()
def order(
    tenant: Annotated[str, typer.Option(help="Whose.")],
    month: Annotated[str, typer.Option(help="Such as 2026-11.")],
    reason: Annotated[str, typer.Option(help="Why it is not left to the calendar.")],
    as_json: AsJson = False,
) -> None:
    """Ask for an invoice over what the month has and no invoice holds yet. Dagster drafts it within seconds."""
    body = {"tenant": tenant, "month": month, "reason": reason}
    ordered = Api.from_environment().post("/admin/v1/invoices/orders", body)
    show(ordered, as_json, f"Ordered ({ordered['id']}); see `studio invoice list --tenant {tenant}`.")


@app.command()
def approve(
    invoice_id: str,
    total: Annotated[str, typer.Option(help="The gross total that you approve, such as 12.34.")],
    as_json: AsJson = False,
) -> None:
    """Approve a draft; Dagster then numbers it and renders its PDF."""
    approval = Api.from_environment().post(f"/admin/v1/invoices/{invoice_id}/approvals", {"expected_gross": total})
    show(approval, as_json, f"Approved by {approval['approved_by']}.")


@app.command()
def download(
    invoice_id: str, out: Annotated[Path | None, typer.Option(help="File; the invoice's number when left out.")] = None
) -> None:
    """Fetch the PDF of a final invoice."""
    api = Api.from_environment()
    target = out or Path(f"{api.get(f'/admin/v1/invoices/{invoice_id}')['number']}.pdf")
    target.write_bytes(api.download(f"/admin/v1/invoices/{invoice_id}/document"))
    typer.echo(f"Wrote {target}.")
