"""Seal what the calendar has closed: each window in a transaction of its own, so that one that waits stops no other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from billing import unsealed, windows
from billing.unsealed import UnsealedWindow
from billing.windows import NothingToSeal, UsageNotComplete
from studio.db.sessions import unit_of_work


@dataclass(frozen=True, slots=True)
class Sealing:
    """How many windows were sealed, and why the others wait."""

    sealed: int
    waiting: tuple[str, ...]


def seal_closed_windows(worker_database: Engine, now: datetime) -> Sealing:
    """Seal every closed window that has usage in no seal, however old it is."""
    with unit_of_work(worker_database) as session:
        found = unsealed.remember(session, now)
    waiting = tuple(why for window in found if (why := _seal(worker_database, window, now)) is not None)
    return Sealing(len(found) - len(waiting), waiting)


def _seal(worker_database: Engine, window: UnsealedWindow, now: datetime) -> str | None:
    """Seal one closed window; why it has to wait, or None."""
    try:
        with unit_of_work(worker_database) as session:
            windows.seal(
                session,
                window_day=window.window_day,
                tenant_id=window.tenant_id,
                by="calendar",
                reason="the day is closed",
                cutoff=windows.closes_at(window.window_day),
                now=now,
            )
    except UsageNotComplete as error:
        return error.message
    except NothingToSeal:  # somebody else sealed it meanwhile
        return None
    return None
