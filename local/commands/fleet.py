"""`studio fleet`: what runs, and engines that somebody else runs."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, console, show, show_rows

app = typer.Typer(no_args_is_help=True, help="What runs.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Desired and observed replicas."""
    report = Api.from_environment().get("/admin/v1/fleet")
    if as_json:
        show(report, True, "")
        return
    show_rows(report["desired"], False, ("model", "desired", "ready", "reason"))
    console.print()
    show_rows(report["replicas"], False, ("id", "model", "kind", "state", "url", "ready_at", "reason"))


@app.command()
def attach(
    model: Annotated[str, typer.Option(help="Model of the catalog whose replica it becomes.")],
    url: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible engine.")],
    engine_model: Annotated[str | None, typer.Option(help="The engine's own name for the weights.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an engine that somebody else runs a replica: routed to and metered like our own."""
    body = {"model": model, "url": url, "engine_model": engine_model}
    replica = Api.from_environment().post("/admin/v1/fleet/replicas", body)
    show(replica, as_json, f"{replica['id']} answers for {replica['model']} at {replica['url']}.")


@app.command()
def detach(replica_id: str) -> None:
    """Let an attached engine go; requests that run on it finish."""
    Api.from_environment().delete(f"/admin/v1/fleet/replicas/{replica_id}")
    typer.echo(f"{replica_id} is detached.")
