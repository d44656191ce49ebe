"""`studio tenant`: customers."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Customers.")


@app.command()
def create(
    slug: str,
    name: Annotated[str, typer.Option(help="As printed on invoices.")],
    currency: Annotated[str, typer.Option(help="EUR or CNY.")] = "EUR",
    legal_entity: Annotated[str, typer.Option(help="Who issues the invoices.")] = "xpulink-de",
    time_zone: Annotated[str, typer.Option(help="Zone of the tenant's billing days.")] = "Europe/Berlin",
    country: Annotated[str, typer.Option(help="Two letters.")] = "DE",
    street: str = "",
    city: str = "",
    vat_id: Annotated[str | None, typer.Option(help="VAT identification number.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a tenant."""
    created = Api.from_environment().post(
        "/admin/v1/tenants",
        {
            "slug": slug,
            "name": name,
            "legal_entity": legal_entity,
            "currency": currency,
            "time_zone": time_zone,
            "buyer": {"name": name, "street": street, "city": city, "country": country, "vat_id": vat_id},
        },
    )
    show(created, as_json, f"Tenant {slug} is created. Give it a key: studio key create --tenant {slug}")


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List all tenants."""
    show_rows(Api.from_environment().get("/admin/v1/tenants"), as_json, ("slug", "name", "id", "created_at"))
