"""How verbs print: `--json` for programs, tables and sentences for people, progress on one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

console = Console()

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def show(answer: Any, as_json: bool, sentence: str) -> None:
    """The answer as JSON, or one sentence about it."""
    if as_json:
        print(json.dumps(answer, indent=1))
    else:
        console.print(sentence, highlight=False)


def show_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, columns: Sequence[str]) -> None:
    """Rows as JSON, or a table of some columns."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        # An id goes into the next command, so it is never cut, however narrow the place is.
        width = max((len(str(row[column])) for row in rows), default=0) if column == "id" else None
        table.add_column(column.replace("_", " "), min_width=width, no_wrap=column == "id")
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    console.print(table if rows else "None.")


@contextmanager
def progress(what: str, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A line that tells what long work does at the moment; nothing of it when the output is for programs."""
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(what) as status:
        yield lambda text: status.update(f"{what}: {text}")
