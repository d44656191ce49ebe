"""Dagster's pulse: a sensor writes when it last ran, so that whoever looks from outside sees when none runs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio.db.observation import DagsterTick


def record(session: Session, now: datetime) -> None:
    """A sensor runs now."""
    statement = insert(DagsterTick).values(singleton=True, ticked_at=now)
    session.execute(statement.on_conflict_do_update(index_elements=[DagsterTick.singleton], set_={"ticked_at": now}))
