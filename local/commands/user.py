"""`studio user`: people who sign in with the OpenID provider, and roles that are granted to them."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="People who sign in, and their roles.")


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List everybody who has ever signed in, with roles (`*`: granted here, not by the provider)."""
    users = Api.from_environment().get("/admin/v1/users")
    if not as_json:
        for user in users:
            user["roles"] = ", ".join(
                f"{one['role']} of {one['tenant'] or 'all'}{'*' if one['origin'] == 'granted' else ''}"
                for one in user["memberships"]
            )
    show_rows(users, as_json, ("id", "email", "name", "roles", "last_seen_at"))


@app.command()
def grant(
    user: Annotated[str, typer.Argument(help="Id (usr_...) or mail address.")],
    role: Annotated[str, typer.Argument(help="owner, developer, finance, ops or auditor.")],
    tenant: Annotated[str | None, typer.Option(help="Where; left out: everywhere (ops, finance, auditor).")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a role beside those that the provider gives."""
    path = f"/admin/v1/users/{quote(user, safe='')}/memberships"
    granted = Api.from_environment().post(path, {"role": role, "tenant": tenant})
    show(granted, as_json, f"{user} is {role} of {tenant or 'all tenants'} ({granted['id']}).")


@app.command(name="sign-out")
def sign_out(user: Annotated[str, typer.Argument(help="Id (usr_...) or mail address.")]) -> None:
    """Sign somebody out in every browser, at once."""
    Api.from_environment().delete(f"/admin/v1/users/{quote(user, safe='')}/sessions")
    typer.echo(f"{user} is signed out in every browser.")


@app.command()
def revoke(
    user: Annotated[str, typer.Argument(help="Id (usr_...) or mail address.")],
    role: Annotated[str, typer.Argument(help="The granted role.")],
    tenant: Annotated[str | None, typer.Option(help="Where; left out: everywhere.")] = None,
) -> None:
    """Take a granted role away, within a second."""
    api = Api.from_environment()
    for one in api.get("/admin/v1/users"):
        if user not in (one["id"], one["email"]):
            continue
        for membership in one["memberships"]:
            if (membership["role"], membership["tenant"]) == (role, tenant) and membership["origin"] == "granted":
                api.delete(f"/admin/v1/memberships/{membership['id']}")
                typer.echo(f"{user} is no longer {role} of {tenant or 'all tenants'}.")
                return
    typer.echo(f"{user} was not granted {role} of {tenant or 'all tenants'}: see `studio user list`.", err=True)
    raise typer.Exit(1)
