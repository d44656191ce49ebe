"""`studio tenant`: customers."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show, show_rows
from studio import ids
from studio.cluster.connection import Cluster
from studio.cluster.site import declared_cluster
from studio.cluster.tenant_objects import ClusterTenant
from studio.cluster.tenants import reconcile
from studio.errors import InvalidRequest
from studio.settings import settings

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
    postcode: str | None = None,
    email: Annotated[str | None, typer.Option(help="Where e-invoices go.")] = None,
    tax_number: Annotated[str | None, typer.Option(help="In China: the number on a fapiao.")] = None,
    payment_days: Annotated[int | None, typer.Option(help="Due after; the legal entity's when left out.")] = None,
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
            "payment_days": payment_days,
            "buyer": {
                "name": name,
                "street": street,
                "postcode": postcode,
                "city": city,
                "country": country,
                "vat_id": vat_id,
                "email": email,
                "tax_number": tax_number,
            },
        },
    )
    show(created, as_json, f"Tenant {slug} is created. Give it a key: studio key create --tenant {slug}")


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List all tenants."""
    show_rows(Api.from_environment().get("/admin/v1/tenants"), as_json, ("slug", "name", "id", "created_at"))


@app.command()
def apply(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what differs; exit 1 when something does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring every tenant's namespace in the cluster to what the site declares.

    Talks to the gateway for the tenants and, with your own KUBECONFIG, to the cluster.
    """
    configured = settings()
    declared = declared_cluster(configured.catalog_dir, configured.site)
    if declared is None:
        raise InvalidRequest(f"The site {configured.site!r} declares no cluster: catalog/sites/{configured.site}.yaml.")
    listed = Api.from_environment().get("/admin/v1/tenants")
    tenants = [
        ClusterTenant(ids.from_wire(ids.TENANT, row["id"]), row["slug"]) for row in listed if not row["is_internal"]
    ]
    with closing(Cluster.from_environment()) as cluster:
        states = reconcile(cluster, declared, tenants, mend=not dry_run)
    rows = [
        {
            "tenant": state.tenant,
            "namespace": state.namespace,
            "outcome": state.outcome,
            "differences": [f"{one.object} {one.field}".strip() for one in state.differences],
            "trouble": state.error or "; ".join(state.over_quota),
        }
        for state in states
    ]
    show_rows(rows, as_json, ("tenant", "namespace", "outcome", "differences", "trouble"))
    if any(state.outcome == "drifted" or not state.is_in_order for state in states):
        raise typer.Exit(1)
