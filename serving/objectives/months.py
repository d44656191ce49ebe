"""Months that were reported, as rows: replaced while a month goes on, kept as they are once it is final.

A month is final when it was computed two days after its end, when its late usage is rated. What customers were told
then does not change because a calendar did: calendars are not dated, so a later look at that month may say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import date, datetime, timedelta

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from serving.objectives.report import Figure
from studio import clock
from studio.db.observation import SloFigure

SETTLED_AFTER = timedelta(days=2)


def is_final(month: date, computed_at: datetime) -> bool:
    """Whether what was computed then stays. Pure."""
    end, _ = clock.day_window(clock.next_month(month), clock.BERLIN)
    return computed_at >= end + SETTLED_AFTER


def store(session: Session, month: date, figures: Sequence[Figure]) -> None:
    """In place of those that were there."""
    session.execute(delete(SloFigure).where(SloFigure.month == month))
    if figures:
        session.execute(insert(SloFigure), [{"month": month, **asdict(figure)} for figure in figures])


def stored(session: Session, month: date) -> list[SloFigure]:
    """The figures of a month as they were last computed; none when they never were."""
    return list(
        session.scalars(
            select(SloFigure).where(SloFigure.month == month).order_by(SloFigure.objective, SloFigure.subject)
        )
    )


def final(session: Session, month: date) -> list[Figure]:
    """The figures of a month that is final; none of one that is not."""
    rows = stored(session, month)
    if not rows or not is_final(month, max(row.computed_at for row in rows)):
        return []
    return [Figure(**{field.name: getattr(row, field.name) for field in fields(Figure)}) for row in rows]


def reported(session: Session) -> list[date]:
    """Months that were computed, by their first day, newest first."""
    return list(session.scalars(select(SloFigure.month).distinct().order_by(SloFigure.month.desc())))


def unfinished(session: Session) -> list[date]:
    """Those of them that are not final yet."""
    computed = session.execute(select(SloFigure.month, func.max(SloFigure.computed_at)).group_by(SloFigure.month))
    return sorted(month for month, computed_at in computed.tuples() if not is_final(month, computed_at))
