"""Verbs of the `studio` command line, one module per noun.

A module offers `app`, a `typer.Typer`; `register` hangs each into the command under the module's name
(`commands/key.py` becomes `studio key`). Modules are found, not listed, so a new noun is a new file.
"""

from __future__ import annotations

import importlib
import pkgutil

import typer


def register(command: typer.Typer) -> None:
    """Add every noun's sub-command."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            app = importlib.import_module(f"{__name__}.{module.name}").app
            command.add_typer(app, name=module.name.replace("_", "-"))
