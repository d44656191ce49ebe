"""The option of commands that act for one tenant."""

from typing import Annotated

import typer

Key = Annotated[str | None, typer.Option("--key", envvar="STUDIO_API_KEY", show_envvar=False, help="The tenant's key.")]
