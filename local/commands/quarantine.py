"""`studio usage quarantine`: usage in question, and what finance decides about it."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Usage that could not be accepted or rated.")

Entry = Annotated[str, typer.Argument(help="The entry's id, as `list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept.")]


@app.command(name="list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None,
    settled: Annotated[bool, typer.Option("--settled", help="Also what is settled.")] = False,
    as_json: AsJson = False,
) -> None:
    """What waits for somebody, oldest first."""
    query = {"settled": str(settled).lower()} | ({"tenant": tenant} if tenant is not None else {})
    rows = Api.from_environment().get("/admin/v1/usage/quarantine", **query)
    show_rows(rows, as_json, ("id", "tenant", "reason", "event_id", "model", "tokens", "arrived_tokens", "decision"))


@app.command()
def release(entry: Entry, reason: Reason, as_json: AsJson = False) -> None:
    """Bill an event in its first version, as it stands in the table."""
    _decide(entry, "released", reason, as_json)


@app.command()
def discard(entry: Entry, reason: Reason, as_json: AsJson = False) -> None:
    """Bill an event to nobody."""
    _decide(entry, "discarded", reason, as_json)


def _decide(entry: str, decision: str, reason: str, as_json: bool) -> None:
    body = {"decision": decision, "reason": reason}
    decided = Api.from_environment().post(f"/admin/v1/usage/quarantine/{entry}/decision", body)
    show(decided, as_json, f"The entry {entry} is {decision}. Its day is counted again by itself.")
