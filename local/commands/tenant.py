"""`studio tenant`: customers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Annotated, Any

import typer

from local.api import Api
from local.output import AsJson, console, show, show_rows
from studio import ids
from studio.cluster.connection import Cluster
from studio.cluster.site import declared_cluster
from studio.cluster.tenant_objects import ClusterTenant
from studio.cluster.tenants import reconcile
from studio.errors import InvalidRequest
from studio.settings import settings

app = typer.Typer(no_args_is_help=True, help="Customers.")
_ADDRESS = ("name", "street", "postcode", "city", "country")  # as on an envelope; what else a buyer has comes after


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


@app.command(name="show")
def show_(slug: str, as_json: AsJson = False) -> None:
    """Show a tenant, open or closed, with past, present and coming terms."""
    tenant = Api.from_environment().get(f"/admin/v1/tenants/{slug}")
    if as_json:
        show(tenant, True, "")
        return
    state = f"closed {tenant['closed_at']}" if tenant["closed_at"] else "open"
    if tenant["closes_on"] and not tenant["closed_at"]:
        state += f", closes on {tenant['closes_on']}"
    console.print(f"{tenant['slug']} ({tenant['name']}), {tenant['id']}, {state}", highlight=False)
    _show_terms(tenant["terms"])


@app.command()
def terms(
    slug: str,
    from_: Annotated[str, typer.Option("--from", help="The first day, in the tenant's time zone.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    name: Annotated[str | None, typer.Option(help="Of the buyer, as printed on invoices.")] = None,
    street: str | None = None,
    postcode: str | None = None,
    city: str | None = None,
    country: Annotated[str | None, typer.Option(help="Two letters.")] = None,
    vat_id: Annotated[str | None, typer.Option(help='VAT identification number; "" removes a text.')] = None,
    email: Annotated[str | None, typer.Option(help="Where e-invoices go.")] = None,
    reference: Annotated[str | None, typer.Option(help="The buyer's own (Leitweg-ID).")] = None,
    phone: str | None = None,
    tax_number: Annotated[str | None, typer.Option(help="In China: the number on a fapiao.")] = None,
    bank: Annotated[str | None, typer.Option(help="In China: the bank on a fapiao.")] = None,
    account: Annotated[str | None, typer.Option(help="In China: the account on a fapiao.")] = None,
    fapiao_kind: Annotated[str | None, typer.Option(help="81 special, 82 general.")] = None,
    payment_days: Annotated[int | None, typer.Option(help="Due after.")] = None,
    tax_category: Annotated[str | None, typer.Option(help='S, AE, G or O; "": as seller and buyer suggest.')] = None,
    legal_entity: Annotated[str | None, typer.Option(help="Who issues the invoices, from a month to come on.")] = None,
    currency: Annotated[str | None, typer.Option(help="EUR or CNY, from a month to come on.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="One with the same midnight, from a month to come on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change how a tenant is billed from a day on. What is not named stays as it is."""
    texts = {
        "name": name, "street": street, "postcode": postcode, "city": city, "country": country, "vat_id": vat_id,
        "email": email, "reference": reference, "phone": phone, "tax_number": tax_number, "bank": bank,
        "account": account, "fapiao_kind": fapiao_kind,
    }  # fmt: skip
    others = {
        "payment_days": payment_days, "tax_category": tax_category, "legal_entity": legal_entity, "currency": currency,
        "time_zone": time_zone,
    }  # fmt: skip
    body = {"valid_from": from_, "reason": reason, "buyer": _given(texts), **_given(others)}
    changed = Api.from_environment().post(f"/admin/v1/tenants/{slug}/terms", body)
    if as_json:
        show(changed, True, "")
        return
    console.print(f"From {from_} on: {', '.join(changed['changed'])}.", highlight=False)
    if changed["dropped_drafts"]:
        dropped = ", ".join(changed["dropped_drafts"])
        console.print(f"Drafts that are made again: {dropped}; see `studio invoice open`.", highlight=False)
    _show_terms(changed["tenant"]["terms"])


@app.command()
def close(
    slug: str,
    at: Annotated[str | None, typer.Option(help="The first day on which it is closed; now when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Close a tenant: keys and jobs end, its namespace goes, and what it used is billed as always."""
    closed = Api.from_environment().post(f"/admin/v1/tenants/{slug}/close", {"on": at})
    if closed["closed_at"] is None:
        show(
            closed, as_json, f"Tenant {slug} closes as {closed['closes_on']} begins; `studio tenant reopen` undoes it."
        )
        return
    ended = f"keys {closed['keys']}, batches {closed['batches']}, fine-tunes {closed['fine_tunes']}"
    show(closed, as_json, f"Tenant {slug} is closed. Ended: {ended}.")


@app.command()
def reopen(slug: str, as_json: AsJson = False) -> None:
    """Open a closed tenant again, or let one stay open that was to close."""
    opened = Api.from_environment().post(f"/admin/v1/tenants/{slug}/reopen")
    show(opened, as_json, f"Tenant {slug} is open. Give it a key: studio key create --tenant {slug}")


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


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was named on the command line; an empty text removes what stood there."""
    return {name: None if value == "" else value for name, value in options.items() if value is not None}


def _show_terms(terms: Sequence[Mapping[str, Any]]) -> None:
    for row in terms:
        until = f" until {row['valid_until']}" if row["valid_until"] else ""
        days = "days of the legal entity" if row["payment_days"] is None else f"{row['payment_days']} days"
        how = f"{row['legal_entity']}, {row['currency']}, {row['time_zone']}, {days}"
        buyer = {name: row["buyer"].get(name) for name in _ADDRESS} | row["buyer"]
        told = ", ".join(text for text in buyer.values() if text)
        sentence = f"{row['when']} from {row['valid_from']}{until}: {how}; {told}"
        console.print(sentence, highlight=False, soft_wrap=True)
