"""`studio finetune`: models of the tenant whose key is used, trained on examples of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from local.api import Api
from local.commands._quoting import quote_within, sentence
from local.commands._tenant_key import Key
from local.output import AsJson, progress, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Models trained on examples of one's own.")

_JOBS = "/v1/fine_tuning/jobs"
_OPEN = ("validating_files", "queued", "running")
_POLL_SECONDS = 2.0

JobId = Annotated[str, typer.Argument(help="Such as ftjob-0199...")]


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="JSON lines, each with `messages`.", exists=True, dir_okay=False)],
    model: Annotated[str, typer.Option(help="The base model.")],
    suffix: Annotated[str | None, typer.Option(help="A word for the new model's name.")] = None,
    epochs: Annotated[int | None, typer.Option(help="How often the examples are read.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Multiplies the usual learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed and examples give the same model.")] = None,
    at_most: Annotated[
        str | None, typer.Option(help="Ask for a quote first, and train only if it is no more than this, net.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload examples and ask for a fine-tune."""
    api = Api.from_environment(key=key)
    chosen = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate}
    hyperparameters = {name: value for name, value in chosen.items() if value is not None}
    with progress(f"Uploading {file.name}", quiet=as_json):
        file_id = api.upload(file, "fine-tune")
    order = {
        "model": model,
        "training_file": file_id,
        "suffix": suffix,
        "seed": seed,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    }
    if at_most is not None:
        what = {"training_file": file_id, "model": model, "n_epochs": epochs}
        order["quote_id"] = quote_within(api, what, at_most, "fine-tune")
    job = api.post(_JOBS, order)
    if wait:
        job = _until_it_ends(api, job["id"], as_json)
    show(job, as_json, _sentence(job))
    if job["status"] == "failed":
        raise typer.Exit(1)


@app.command()
def quote(
    file: Annotated[Path, typer.Argument(help="JSON lines, each with `messages`.", exists=True, dir_okay=False)],
    model: Annotated[str, typer.Option(help="The base model.")],
    epochs: Annotated[int | None, typer.Option(help="How often the examples are read.")] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload examples and ask what a fine-tune on them costs at most. Nothing is trained."""
    api = Api.from_environment(key=key)
    with progress(f"Uploading {file.name}", quiet=as_json):
        file_id = api.upload(file, "fine-tune")
    found = api.post("/v1/quotes", {"training_file": file_id, "model": model, "n_epochs": epochs})
    show(found, as_json, sentence(found))


@app.command()
def status(job_id: JobId, key: Key = None, as_json: AsJson = False) -> None:
    """Show how far a job is."""
    job = Api.from_environment(key=key).get(f"{_JOBS}/{job_id}")
    show(job, as_json, _sentence(job))


@app.command()
def events(job_id: JobId, limit: int = 50, key: Key = None, as_json: AsJson = False) -> None:
    """Show what has happened, oldest first."""
    page = Api.from_environment(key=key).get(f"{_JOBS}/{job_id}/events", limit=str(limit))
    show_rows(page["data"][::-1], as_json, ("level", "message"))


@app.command()
def cancel(job_id: JobId, key: Key = None, as_json: AsJson = False) -> None:
    """Ask for a job's end."""
    job = Api.from_environment(key=key).post(f"{_JOBS}/{job_id}/cancel")
    show(job, as_json, f"{job_id} will end within seconds.")


def _until_it_ends(api: Api, job_id: str, quiet: bool) -> Mapping[str, Any]:
    with progress(job_id, quiet) as say:
        while True:
            job: Mapping[str, Any] = api.get(f"{_JOBS}/{job_id}")
            if job["status"] not in _OPEN:
                return job
            newest = api.get(f"{_JOBS}/{job_id}/events", limit="1")["data"]
            say(newest[0]["message"] if newest else job["status"])
            time.sleep(_POLL_SECONDS)


def _sentence(job: Mapping[str, Any]) -> str:
    if job["status"] == "succeeded":
        return f"{job['id']} has succeeded: the model is {job['fine_tuned_model']}"
    if job["status"] == "failed":
        return f"{job['id']} has failed: {job['error']['message']}"
    return f"{job['id']} is {job['status']}; see `studio finetune events {job['id']}`."
