"""`studio credit`: lots of credit, which pay invoices as they become final."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Credit of tenants.")

Tenant = Annotated[str, typer.Option(help="Whose.")]


@app.command()
def grant(
    tenant: Tenant,
    amount: str,
    reason: Annotated[str, typer.Option(help="Such as the bank's reference of the top-up.")],
    promotion: Annotated[bool, typer.Option("--promotion/--prepaid", help="A gift, or paid for.")] = False,
    expires_on: Annotated[str | None, typer.Option(help="Its last day, such as 2027-11-30.")] = None,
    as_json: AsJson = False,
) -> None:
    """Grant credit, such as 250.00 in the tenant's currency."""
    kind = "promotion" if promotion else "prepaid"
    body = {"kind": kind, "amount": amount, "reason": reason, "expires_on": expires_on}
    lot = Api.from_environment().post(f"/admin/v1/tenants/{tenant}/credits", body)
    show(lot, as_json, f"Granted {lot['amount']} {lot['currency']} ({lot['id']}).")


@app.command()
def request(
    tenant: Tenant,
    amount: str,
    reason: Annotated[str, typer.Option(help="Such as the bank's reference of the top-up.")],
    promotion: Annotated[bool, typer.Option("--promotion/--prepaid", help="A gift, or paid for.")] = False,
    expires_on: Annotated[str | None, typer.Option(help="Its last day, such as 2027-11-30.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a large lot; somebody else approves it."""
    kind = "promotion" if promotion else "prepaid"
    body = {"kind": kind, "amount": amount, "reason": reason, "expires_on": expires_on}
    asked = Api.from_environment().post(f"/admin/v1/tenants/{tenant}/credit-requests", body)
    show(asked, as_json, f"Asked for ({asked['id']}); somebody else: studio credit approve {asked['id']}")


@app.command()
def approve(request_id: str, as_json: AsJson = False) -> None:
    """Grant a lot that somebody else asked for (crq_...)."""
    lot = Api.from_environment().post(f"/admin/v1/credit-requests/{request_id}/approvals", {})
    show(lot, as_json, f"Granted {lot['amount']} {lot['currency']} ({lot['id']}).")


@app.command()
def decline(request_id: str, reason: Annotated[str, typer.Option(help="Why not.")], as_json: AsJson = False) -> None:
    """Decline what somebody asked for, or take back one's own request."""
    asked = Api.from_environment().post(f"/admin/v1/credit-requests/{request_id}/declines", {"reason": reason})
    show(asked, as_json, f"Declined {asked['amount']} ({asked['id']}); nothing was booked.")


@app.command(name="list")
def list_(tenant: Tenant, as_json: AsJson = False) -> None:
    """Every lot, and what is left of it."""
    rows = Api.from_environment().get(f"/admin/v1/tenants/{tenant}/credits")
    columns = ("id", "kind", "amount", "remaining", "currency", "granted_on", "expires_on", "reason")
    show_rows(rows, as_json, columns)
