"""`studio batch`: batches of the tenant whose key is used."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.api import Api, ApiRefused
from local.commands._quoting import quote_within, sentence
from local.commands._tenant_key import Key
from local.output import AsJson, console, show

app = typer.Typer(no_args_is_help=True, help="Batches: many requests in one file, at half price.")

BatchId = Annotated[str, typer.Argument(metavar="BATCH")]

_ENDED = ("completed", "failed", "expired", "cancelled")
_POLL_SECONDS = 0.5


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="One request a line.")],
    endpoint: Annotated[str, typer.Option(help="What every line asks.")] = "/v1/chat/completions",
    window: Annotated[str, typer.Option(help="From 1h to 168h; what has not run then is given back.")] = "24h",
    at_most: Annotated[
        str | None, typer.Option(help="Ask for a quote first, and run only if it is no more than this, net.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the batch has ended.")] = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file and have its lines answered."""
    api = Api.from_environment(key=key)
    order = {"input_file_id": api.upload(file, "batch"), "endpoint": endpoint, "completion_window": window}
    if at_most is not None:
        what = {"input_file_id": order["input_file_id"], "endpoint": endpoint}
        order["quote_id"] = quote_within(api, what, at_most, "batch")
    batch = api.post("/v1/batches", order)
    if wait:
        batch = _wait(api, batch, quiet=as_json)
    show(batch, as_json, _sentence(batch))
    if batch["status"] == "failed":
        raise typer.Exit(1)


@app.command()
def quote(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="One request a line.")],
    endpoint: Annotated[str, typer.Option(help="What every line asks.")] = "/v1/chat/completions",
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file and ask what a batch of it costs at most. Nothing is run."""
    api = Api.from_environment(key=key)
    found = api.post("/v1/quotes", {"input_file_id": api.upload(file, "batch"), "endpoint": endpoint})
    show(found, as_json, sentence(found))


@app.command()
def status(batch: BatchId, key: Key = None, as_json: AsJson = False) -> None:
    """Show how far a batch is."""
    found = Api.from_environment(key=key).get(f"/v1/batches/{batch}")
    show(found, as_json, _sentence(found))


@app.command()
def fetch(
    batch: BatchId,
    out: Annotated[Path, typer.Option(help="Where the answers go; lines without one go beside it.")],
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Download the answers of a batch that has ended."""
    api = Api.from_environment(key=key)
    found = api.get(f"/v1/batches/{batch}")
    if found["status"] not in _ENDED:
        raise ApiRefused(f"The batch {batch} is {found['status']}: its files are there when it has ended.")
    written = {}
    targets = {"output_file_id": out, "error_file_id": out.with_name(f"{out.stem}.errors{out.suffix}")}
    for name, target in targets.items():
        if found[name] is not None:
            target.write_bytes(api.download(f"/v1/files/{found[name]}/content"))
            written[name] = str(target)
    show(written, as_json, "Wrote " + " and ".join(written.values()) if written else "The batch has no results.")


@app.command()
def cancel(batch: BatchId, key: Key = None, as_json: AsJson = False) -> None:
    """Stop a batch. What is answered stays, and is billed."""
    found = Api.from_environment(key=key).post(f"/v1/batches/{batch}/cancel")
    show(found, as_json, _sentence(found))


def _wait(api: Api, batch: dict[str, Any], quiet: bool) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task(batch["status"], total=None)
        while batch["status"] not in _ENDED:
            time.sleep(_POLL_SECONDS)
            batch = api.get(f"/v1/batches/{batch['id']}")
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            bar.update(task, description=batch["status"], completed=done, total=counts["total"] or None)
    return batch


def _sentence(batch: dict[str, Any]) -> str:
    if batch["errors"]:
        mistakes = [
            f"line {error['line']}: {error['message']}" if error["line"] else error["message"]
            for error in batch["errors"]["data"]
        ]
        return "\n".join([f"{batch['id']} is {batch['status']}; nothing of it was run:", *mistakes])
    counts = batch["request_counts"]
    return (
        f"{batch['id']} is {batch['status']}: {counts['completed']} of {counts['total']} lines answered,"
        f" {counts['failed']} without an answer."
    )
