"""`studio budget`: what tenants and keys may spend."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show_rows

app = typer.Typer(no_args_is_help=True, help="What tenants and their keys may spend.")

_COLUMNS = ("key_id", "kind", "amount", "currency", "spent", "held", "free", "period")
Tenant = Annotated[str, typer.Option(help="Whose budget.")]
Key = Annotated[str | None, typer.Option(help="Id of one of its keys; absent: of the whole tenant.")]
Monthly = Annotated[bool, typer.Option("--monthly/--prepaid", help="Anew each month, or once.")]


@app.command(name="set")
def set_(tenant: Tenant, amount: str, key: Key = None, monthly: Monthly = True, as_json: AsJson = False) -> None:
    """Create a budget or change its amount, such as 250.00 in the tenant's currency."""
    body = {"kind": _kind(monthly), "amount": amount, "key_id": key}
    show_rows(Api.from_environment().put(f"/admin/v1/tenants/{tenant}/budgets", body), as_json, _COLUMNS)


@app.command(name="list")
def list_(tenant: Tenant, as_json: AsJson = False) -> None:
    """Every budget of a tenant and of its keys, and what is left."""
    show_rows(Api.from_environment().get(f"/admin/v1/tenants/{tenant}/budgets"), as_json, _COLUMNS)


@app.command()
def end(tenant: Tenant, key: Key = None, monthly: Monthly = True) -> None:
    """End a budget: spending is not limited by it any more."""
    query = f"?key_id={key}" if key else ""
    Api.from_environment().delete(f"/admin/v1/tenants/{tenant}/budgets/{_kind(monthly)}{query}")
    typer.echo(f"The {_kind(monthly)} budget is ended.")


def _kind(monthly: bool) -> str:
    return "monthly" if monthly else "prepaid"
