"""`studio model`: the catalog as the gateway sells it, and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, progress, show, show_rows
from local.weights_push import push as push_weights

app = typer.Typer(no_args_is_help=True, help="The catalog, and weights.")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False)],
    model: Annotated[str, typer.Option(help="Model or variant of the catalog.")],
    as_json: AsJson = False,
) -> None:
    """Push a folder of weights (safetensors). An interrupted push goes on where it stopped."""
    api = Api.from_environment()
    with progress(f"Pushing {folder.name}", quiet=as_json) as say:
        published = push_weights(api, folder, model, say)
    size = f"{published['size_bytes'] / 1e6:.1f} MB"
    show(published, as_json, f"{published['weights']} is now {published['digest']} ({size}).")


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List what is sold, and whether it answers now."""
    rows = Api.from_environment().get("/v1/models")["data"]
    show_rows(rows, as_json, ("id", "tier", "task", "state", "context_tokens", "licence"))
