"""Instants as people type them: `2026-11-25 18:00` is wall-clock time in Berlin, unless an offset stands behind it."""

from __future__ import annotations

from datetime import datetime

import typer

from studio import clock


def parse_instant(text: str) -> datetime:
    """The instant; typer's own error when it is none."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f'{text!r} is no instant: write it as "2026-11-25 18:00"') from None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=clock.BERLIN)


def show_instant(text: str | None) -> str:
    """An instant of the API, for people in Berlin."""
    return "" if text is None else f"{datetime.fromisoformat(text).astimezone(clock.BERLIN):%a %Y-%m-%d %H:%M}"
