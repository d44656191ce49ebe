"""`studio key`: API keys of tenants."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="API keys of tenants.")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """`90s`, `15m`, `12h`, `30d` as seconds."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise typer.BadParameter("write it as 90s, 15m, 12h or 30d")
    return int(match[1]) * _SECONDS[match[2]]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose key.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    scope: Annotated[
        list[str] | None, typer.Option(help="inference, usage, account, keys, admin; may be repeated.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option(help="Such as 12h or 30d.")] = None,
    requests_per_second: Annotated[int | None, typer.Option(min=1, help="A limit of this key.")] = None,
    credit: Annotated[str | None, typer.Option(help="Money that this key may spend, such as 25.00.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; may be repeated.")] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(help="Only this path, such as /v1/embeddings; may be repeated.")
    ] = None,
    own_cache: Annotated[
        bool, typer.Option("--own-cache", help="Share no cache of prompts or answers with the tenant's other keys.")
    ] = False,
    admin: Annotated[bool, typer.Option("--admin", help="Short for --scope admin.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it: the only time it can be seen."""
    scopes = [*(scope or []), *(["admin"] if admin else [])] or ["inference", "usage"]
    created = Api.from_environment().post(
        f"/admin/v1/tenants/{tenant}/keys",
        {
            "name": name,
            "scopes": scopes,
            "expires_in_seconds": seconds(expires_in) if expires_in else None,
            "requests_per_second": requests_per_second,
            "credit": credit,
            "models": model or None,
            "endpoints": endpoint or None,
            "own_cache": own_cache,
        },
    )
    show(created, as_json, f"{created['key']}\n(shown this once; {', '.join(created['scopes'])}; tenant {tenant})")


@app.command(name="list")
def list_(tenant: Annotated[str, typer.Option(help="Whose keys.")], as_json: AsJson = False) -> None:
    """List a tenant's keys."""
    rows = Api.from_environment().get(f"/admin/v1/tenants/{tenant}/keys")
    show_rows(
        rows, as_json, ("id", "prefix", "name", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    )


@app.command()
def revoke(key_id: str) -> None:
    """End a key; every gateway refuses it within a second."""
    Api.from_environment().delete(f"/admin/v1/keys/{key_id}")
    typer.echo(f"{key_id} is revoked.")
