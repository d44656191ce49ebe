"""`studio fleet`: what runs and when, and engines that somebody else runs."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.instants import parse_instant, show_instant
from local.output import AsJson, console, show, show_rows

app = typer.Typer(no_args_is_help=True, help="What runs, and when.")

_METERED = {
    "running": "It is metered by the usage that it tells with each token.",
    "end": "It tells usage at a stream's end only: a stream whose caller leaves is heard to its end and billed whole.",
    "whole": "It is metered by the usage of each answer.",
}


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
    if report["pods"]:
        console.print()
        show_rows(report["pods"], False, ("model", "state", "trouble", "since", "said"))
    if report["cluster_away_since"]:
        away = show_instant(report["cluster_away_since"])
        console.print(f"The cluster's API server has not answered since {away}.", highlight=False)


@app.command()
def attach(
    model: Annotated[str, typer.Option(help="Model of the catalog whose replica it becomes.")],
    url: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible engine.")],
    engine_model: Annotated[str | None, typer.Option(help="The engine's own name for the weights.")] = None,
    engine_key: Annotated[
        str | None,
        # Other users of a machine see the arguments of its processes, and not their environment.
        typer.Option(envvar="STUDIO_ENGINE_KEY", help="Sent to the engine as `Authorization: Bearer`."),
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="How many requests it runs at once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an engine that somebody else runs a replica: routed to and metered like our own.

    Its key is sealed at rest and never shown again.
    """
    body = {
        "model": model,
        "url": url,
        "engine_model": engine_model,
        "engine_key": engine_key,
        "max_num_seqs": max_num_seqs,
    }
    replica = Api.from_environment().post("/admin/v1/fleet/replicas", body)
    answers = f"{replica['id']} answers for {replica['model']} at {replica['url']}."
    show(replica, as_json, f"{answers} {_METERED[replica['metering']]}")


@app.command()
def detach(replica_id: str) -> None:
    """Let an attached engine go; requests that run on it finish."""
    Api.from_environment().delete(f"/admin/v1/fleet/replicas/{replica_id}")
    typer.echo(f"{replica_id} is detached.")


@app.command()
def hours(as_json: AsJson = False) -> None:
    """Opening hours and overrides of what is deployed here, and what changes next."""
    report = Api.from_environment().get("/admin/v1/fleet/hours")
    if as_json:
        show(report, True, "")
        return
    moved = " (a moved clock)" if report["clock_offset_seconds"] else ""
    console.print(f"Opening hours take it for {show_instant(report['now'])} in Berlin{moved}.", highlight=False)
    for model in report["models"]:
        change = model["next_change"]
        model["next"] = f"{change['replicas']} from {show_instant(change['at'])}" if change else "none"
    show_rows(report["models"], False, ("model", "hours", "open", "desired", "reason", "next"))
    overrides = [override for model in report["models"] for override in model["overrides"]]
    for override in overrides:
        always = override["created_by"] == "site"  # declared in catalog/sites, it has neither start nor end
        override["starts"] = "always" if always else show_instant(override["starts_at"])
        override["ends"] = show_instant(override["ends_at"])
        override["replicas"] = "calendar" if override["replicas"] is None else override["replicas"]
    console.print()
    show_rows(overrides, False, ("id", "model", "replicas", "starts", "ends", "in_force", "created_by", "reason"))


@app.command()
def override(
    model: Annotated[str, typer.Argument(help="Whose opening hours.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    replicas: Annotated[str, typer.Option(help="A number; or open: as many as when open; or calendar.")] = "open",
    starts_at: Annotated[str | None, typer.Option("--from", help='Such as "2026-11-25 18:00"; now if absent.')] = None,
    ends_at: Annotated[str | None, typer.Option("--until", help="Until it is ended if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Override a model's calendar for a time. The fleet follows within seconds."""
    body = {
        "model": model,
        "replicas": int(replicas) if replicas.isdecimal() else replicas,
        "starts_at": parse_instant(starts_at).isoformat() if starts_at else None,
        "ends_at": parse_instant(ends_at).isoformat() if ends_at else None,
        "reason": reason,
    }
    made = Api.from_environment().post("/admin/v1/fleet/overrides", body)
    until = f"until {show_instant(made['ends_at'])}" if made["ends_at"] else "until it is ended"
    says = "the calendar speaks" if made["replicas"] is None else f"{made['replicas']} replicas"
    show(made, as_json, f"{made['id']}: {model} from {show_instant(made['starts_at'])} {until}: {says}.")


@app.command()
def end_override(override_id: str) -> None:
    """End an override now."""
    Api.from_environment().delete(f"/admin/v1/fleet/overrides/{override_id}")
    typer.echo(f"{override_id} is ended.")
