"""What our driver remembers and tells: how each variant's pods are, and whether the API server answers.

The gateway reads it for `/v1/models`, and the next tick for what has lasted how long. Only changes are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio.cluster.health import Before
from studio.cluster.scaling import ScaleState
from studio.db.catalog import ModelVariant
from studio.db.fleet import ClusterContact, EnginePods, EngineStart


def before(session: Session) -> dict[str, Before]:
    """What the tick before has seen, by variant."""
    rows = session.scalars(select(EnginePods))
    return {row.variant_id: Before(row.trouble, row.trouble_since, row.unready_since) for row in rows}


def record(session: Session, states: Sequence[ScaleState], now: datetime) -> None:
    """The API server has answered, and this is what it said."""
    was_away = session.scalar(select(ClusterContact.away_since)) is not None
    _contact(session, None, "")
    known = set(session.scalars(select(ModelVariant.id)))
    rows = {one.variant: _row(one) for one in reversed(states) if one.variant in known}
    columns = [column for column in EnginePods.__table__.columns if column.name != "changed_at"]
    seen = {row["variant_id"]: dict(row) for row in session.execute(select(*columns)).mappings()}
    for variant, row in rows.items():
        if row != seen.get(variant):
            statement = insert(EnginePods).values(**row, changed_at=now)
            session.execute(
                statement.on_conflict_do_update(index_elements=[EnginePods.variant_id], set_={**row, "changed_at": now})
            )
    for state in states:
        started_at = seen.get(state.variant, {}).get("unready_since")
        # While nobody answered it may have been ready for long.
        if started_at is not None and not was_away and state.outcome == "in order" and state.desired > 0:
            row = {"variant_id": state.variant, "started_at": started_at, "ready_at": now}
            session.execute(insert(EngineStart).values(**row).on_conflict_do_nothing())
    if gone := seen.keys() - rows.keys():
        session.execute(delete(EnginePods).where(EnginePods.variant_id.in_(gone)))


def note_away(session: Session, said: str, now: datetime) -> datetime:
    """The API server does not answer. Since when."""
    away_since = session.scalar(select(ClusterContact.away_since)) or now
    _contact(session, away_since, said)
    return away_since


def _contact(session: Session, away_since: datetime | None, said: str) -> None:
    known = session.execute(select(ClusterContact.away_since, ClusterContact.said)).one_or_none()
    if known is not None and tuple(known) == (away_since, said):
        return
    row = {"away_since": away_since, "said": said}
    statement = insert(ClusterContact).values(id=1, **row)
    session.execute(statement.on_conflict_do_update(index_elements=[ClusterContact.id], set_=row))


def _row(state: ScaleState) -> dict[str, object]:
    how = state.health
    return {
        "variant_id": state.variant,
        "outcome": state.outcome,
        "trouble": how.trouble.kind if how.trouble is not None else None,
        "said": state.said,
        "trouble_since": how.trouble_since,
        "unready_since": how.unready_since,
    }
