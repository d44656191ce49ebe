"""`studio usage`: processing windows of usage."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from local.api import Api
from local.commands import quarantine
from local.output import AsJson, progress, show, show_rows
from local.seal import seal_window

app = typer.Typer(no_args_is_help=True, help="Processing windows of usage, and usage in question.")
app.add_typer(quarantine.app, name="quarantine")


@app.command()
def windows(tenant: Annotated[str, typer.Option(help="Whose windows.")], as_json: AsJson = False) -> None:
    """List what is sealed and how far each seal has come."""
    rows = Api.from_environment().get("/admin/v1/usage/windows", tenant=tenant)
    show_rows(rows, as_json, ("window", "seal_no", "state", "events", "tokens", "sealed_by", "reason"))


@app.command()
def seal(
    window: Annotated[str, typer.Argument(metavar="DAY", help="A Berlin day, such as 2026-11-25.")],
    tenant: Annotated[str, typer.Option(help="Whose window.")],
    reason: Annotated[str, typer.Option(help="Why it is sealed before the calendar does.")],
    as_json: AsJson = False,
) -> None:
    """Seal a window now, with what it has received; later usage gets a seal of its own."""
    try:
        day = date.fromisoformat(window)
    except ValueError:
        raise typer.BadParameter(f"{window!r} is no day", param_hint="DAY") from None
    with progress(f"Sealing {day}", quiet=as_json) as say:
        sealed = seal_window(Api.from_environment(), day, tenant, reason, say)
    show(sealed, as_json, f"Seal {sealed['seal_no']} of {day} holds {sealed['events']} events.")
