"""The clock of opening hours: real time, which a demo or a test may run ahead or behind of.

It moves opening hours and nothing else: usage, journal, money, tokens and leases ask `studio.clock`. In production the
row is ignored, whoever wrote it. A file of its own because trainers import `clock` and know no database.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio import clock
from studio.db.hours import ClockOffset
from studio.errors import InvalidRequest, PermissionDenied
from studio.settings import settings

FARTHEST = timedelta(days=3660)


class ClockIsReal(PermissionDenied):
    """Somebody tried to move the clock of an installation that serves customers."""

    default_code = "clock_is_real"

    def __init__(self) -> None:
        super().__init__("The clock of opening hours can be moved only where STUDIO_ENV is demo or test.")


def is_movable() -> bool:
    """Whether this installation may have an offset at all."""
    return settings().env in ("demo", "test")


def offset(session: Session) -> timedelta:
    """How far the clock of opening hours runs ahead of real time; negative when it is behind."""
    if not is_movable():
        return timedelta(0)
    return session.scalar(select(ClockOffset.offset)) or timedelta(0)


def hours_now(session: Session) -> datetime:
    """The present instant as opening hours see it."""
    return clock.now() + offset(session)


def set_offset(session: Session, ahead: timedelta, actor: str) -> None:
    """Let opening hours run ahead by so much. ClockIsReal in production."""
    if not is_movable():
        raise ClockIsReal
    if abs(ahead) > FARTHEST:
        raise InvalidRequest("the clock can be moved by ten years at most")
    row = {"offset": ahead, "set_by": actor, "set_at": clock.now()}
    statement = insert(ClockOffset).values(singleton=True, **row)
    session.execute(statement.on_conflict_do_update(index_elements=[ClockOffset.singleton], set_=row))


def reset(session: Session) -> None:
    """Back to real time."""
    session.execute(delete(ClockOffset))
