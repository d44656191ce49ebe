"""`studio limits`: how often, how much and how many at once tenants and their keys may ask."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Limits of tenants, keys and models.")

Tenant = Annotated[str, typer.Option(help="Whose limits.")]
OfKey = Annotated[str | None, typer.Option("--key", help="Id of one key; the tenant as a whole if absent.")]
OfModel = Annotated[str | None, typer.Option("--model", help="One model; all together if absent.")]
Most = Annotated[int | None, typer.Option(min=1)]

_KINDS = ("requests_per_second", "requests_per_minute", "tokens_per_minute", "concurrent_requests")


@app.command(name="set")
def set_(
    tenant: Tenant,
    key: OfKey = None,
    model: OfModel = None,
    requests_per_second: Most = None,
    requests_per_minute: Most = None,
    tokens_per_minute: Most = None,
    concurrent_requests: Most = None,
    as_json: AsJson = False,
) -> None:
    """Set the limits of a tenant, a key or a model; they replace all that this key and model had before."""
    values = (requests_per_second, requests_per_minute, tokens_per_minute, concurrent_requests)
    order = {"key": key, "model": model} | dict(zip(_KINDS, values, strict=True))
    made = Api.from_environment().put(f"/admin/v1/tenants/{tenant}/limits", order)
    given = ", ".join(f"{made[kind]:,} {kind.replace('_', ' ')}" for kind in _KINDS if made[kind] is not None)
    show(made, as_json, f"{_whose(tenant, key, model)}: {given}. Every gateway keeps to it within a second.")


@app.command(name="list")
def list_(tenant: Tenant, as_json: AsJson = False) -> None:
    """List all limits of a tenant; a request must keep to each that matches its key and its model."""
    rows = Api.from_environment().get(f"/admin/v1/tenants/{tenant}/limits")
    show_rows(rows, as_json, ("key", "model", *_KINDS))


@app.command()
def clear(tenant: Tenant, key: OfKey = None, model: OfModel = None) -> None:
    """End the limits of a tenant, a key or a model."""
    of = urlencode({name: value for name, value in (("key", key), ("model", model)) if value is not None})
    Api.from_environment().delete(f"/admin/v1/tenants/{tenant}/limits?{of}")
    typer.echo(f"{_whose(tenant, key, model)}: no limits any more.")


def _whose(tenant: str, key: str | None, model: str | None) -> str:
    return f"{f'Key {key} of {tenant}' if key else f'Tenant {tenant}'}, {model or 'all models'}"
