"""`studio backup`: dumps of the database in the object store, and the drill that restores one.

Works on the database and the S3 server of the `STUDIO_*` settings, else on the stack of this folder.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from local.backup import drill as restoring
from local.backup import dump
from local.backup.dump import Manifest
from local.output import AsJson, progress, show, show_rows
from local.paths import StatePaths
from local.ports import Ports
from local.stack import Stack
from local.stack_process import observe
from studio import clock
from studio.errors import NotFound
from studio.objects import ObjectStore
from studio.settings import Settings, settings

app = typer.Typer(no_args_is_help=True, help="Backups of the database.")


@app.command()
def create(
    keep: Annotated[int, typer.Option(help="Backups that stay; older ones are removed.", min=1)] = 14,
    as_json: AsJson = False,
) -> None:
    """Dump the database, with a manifest of what is in it."""
    configured = _settings()
    store = ObjectStore.from_settings(configured)
    store.ensure_buckets()
    with progress("Dumping the database", quiet=as_json):
        made = dump.take(configured.database_url("owner"), store, clock.now())
    removed = dump.prune(store, keep)
    sentence = f"Backup {made.name}: {made.size_bytes:,} bytes, {sum(made.facts.rows.values()):,} rows."
    show(_row(made) | {"removed": removed}, as_json, sentence)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """All backups, the oldest first."""
    found = dump.backups(ObjectStore.from_settings(_settings()))
    show_rows([_row(manifest) for manifest in found], as_json, ("name", "size_bytes", "rows", "ledger_head"))


@app.command()
def drill(
    name: Annotated[str | None, typer.Argument(help="As `list` shows it; the newest without one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a server of its own and compare it with its manifest. Exit 1 when it is not the same."""
    store = ObjectStore.from_settings(_settings())
    found = [manifest for manifest in dump.backups(store) if name in (None, manifest.name)]
    if not found:
        raise NotFound(
            f"There is no backup {name}." if name else "There is no backup: make one with `studio backup create`.",
            way_out="`studio backup list` names them." if name else "",
        )
    with progress(f"Restoring {found[-1].name}", quiet=as_json):
        done = restoring.drill(store, found[-1])
    deviations = [one._asdict() for one in done.deviations]
    if deviations and not as_json:
        show_rows(deviations, False, ("what", "expected", "found"))
    said = "is what its manifest says" if done.passed else "is NOT what its manifest says"
    show(
        asdict(done) | {"passed": done.passed, "deviations": deviations},
        as_json,
        f"Backup {done.backup}, restored in {done.seconds:.1f} s, {said}: {done.tables} tables, {done.rows:,} rows.",
    )
    if not done.passed:
        raise typer.Exit(1)


def _row(manifest: Manifest) -> dict[str, object]:
    return {
        "name": manifest.name,
        "size_bytes": manifest.size_bytes,
        "rows": sum(manifest.facts.rows.values()),
        "ledger_head": manifest.facts.ledger_head,
    }


def _settings() -> Settings:
    """Those of the environment; where it names no database, those of the stack here."""
    if settings().database_owner_url is not None:
        return settings()
    state = observe(StatePaths.from_environment())
    stack = Stack.from_environment(None if state is None else Ports(state.port_offset))
    return Settings.model_validate(
        {name.removeprefix("STUDIO_").lower(): value for name, value in stack.owner_environment.items()}
    )
