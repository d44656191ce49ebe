"""`studio clock`: the clock of opening hours, which a demo may move. Usage and money always follow real time."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.instants import parse_instant, show_instant
from local.output import AsJson, show

app = typer.Typer(no_args_is_help=True, help="The clock of opening hours (demo and test only).")


@app.command(name="set")
def set_(
    instant: Annotated[str, typer.Argument(metavar="INSTANT", help='Such as "2026-11-25 18:00", Berlin time.')],
    as_json: AsJson = False,
) -> None:
    """Let opening hours take this instant for now; the clock runs on from there."""
    moved = Api.from_environment().put("/admin/v1/clock", {"now": parse_instant(instant).isoformat()})
    show(moved, as_json, f"Opening hours take it for {show_instant(moved['now'])} in Berlin.")


@app.command()
def reset() -> None:
    """Back to real time."""
    Api.from_environment().delete("/admin/v1/clock")
    typer.echo("Opening hours follow real time.")
