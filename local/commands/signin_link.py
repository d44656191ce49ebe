"""`studio signin-link`: sign in to the console on a machine without an OpenID provider."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show

app = typer.Typer(no_args_is_help=True, help="One-time links that sign somebody in, where there is no provider.")


@app.command()
def create(
    tenant: Annotated[list[str] | None, typer.Option(help="Where; may be given more than once.")] = None,
    role: Annotated[str, typer.Option(help="There: owner, developer, finance or auditor.")] = "owner",
    ops: Annotated[bool, typer.Option("--ops", help="An operator, too.")] = False,
    name: Annotated[str, typer.Option(help="Whom it signs in; usage of one name hangs together.")] = "operator",
    as_json: AsJson = False,
) -> None:
    """Print a link that is good once, for 15 minutes."""
    created = create_link(Api.from_environment(), tenant or [], role=role, ops=ops, name=name)
    if as_json:
        show(created, as_json, "")
    else:
        typer.echo(f"Open this once, until {created['expires_at']}:\n{created['url']}")


def create_link(
    api: Api, tenants: list[str], *, role: str = "owner", ops: bool = False, name: str = "operator"
) -> dict[str, str]:
    """The new link."""
    order = {"name": name, "tenants": tenants, "roles": [role] if tenants else [], "everywhere": ["ops"] if ops else []}
    created: dict[str, str] = api.post("/admin/v1/signin-links", order)
    return created
