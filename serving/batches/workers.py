"""Workers: who drains batches at the moment, as rows. A worker is a usage source of kind `transaction`, so the number
of its next event, the proof that it lives and the owner of its leases are one and the same row."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, text, update
from sqlalchemy.orm import Session

from studio.db.usage import UsageSource

LEASE = timedelta(seconds=30)


class WorkerClosed(Exception):
    """Others took this worker for dead. What it holds is theirs now, and it may not meter any more."""


def register(session: Session, worker_id: UUID, now: datetime) -> None:
    """A new worker."""
    session.execute(
        insert(UsageSource).values(
            id=worker_id,
            kind="transaction",
            name=f"batch worker {os.getpid()} on {socket.gethostname()}",
            opened_at=now,
            last_seq=0,
            pending=0,
            heartbeat_at=now,
        )
    )


def beat(session: Session, worker_id: UUID, now: datetime) -> None:
    """Say that it lives. WorkerClosed when nobody believes it any more."""
    statement = update(UsageSource).where(_open(worker_id)).values(heartbeat_at=now).returning(UsageSource.id)
    if session.scalars(statement).one_or_none() is None:
        raise WorkerClosed(str(worker_id))


def take_numbers(session: Session, worker_id: UUID, events: int, now: datetime) -> int:
    """The first of `events` consecutive source numbers, which exist only if this transaction commits."""
    statement = (
        update(UsageSource)
        .where(_open(worker_id))
        .values(last_seq=UsageSource.last_seq + events, heartbeat_at=now)
        .returning(UsageSource.last_seq)
    )
    last_seq = session.scalars(statement).one_or_none()
    if last_seq is None:
        raise WorkerClosed(str(worker_id))
    return last_seq - events + 1


def close(session: Session, worker_id: UUID, now: datetime, *, lost_work: bool) -> None:
    """The worker ends. `lost_work`: engines counted tokens for it that became nobody's event, as after a crash."""
    session.execute(
        update(UsageSource)
        .where(_open(worker_id))
        .values(closed_at=now, heartbeat_at=now, crashed_at=now if lost_work else None)
    )
    _settle(session, worker_id)


def close_the_dead(session: Session, now: datetime, lease: timedelta = LEASE) -> int:
    """Close workers that have been silent for longer than a lease; how many."""
    statement = (
        update(UsageSource)
        .where(_is_worker(), UsageSource.closed_at.is_(None), UsageSource.heartbeat_at < now - lease)
        .values(closed_at=now, crashed_at=now)
        .returning(UsageSource.id)
    )
    dead = session.scalars(statement).all()
    for worker_id in dead:
        _settle(session, worker_id)
    return len(dead)


def _settle(session: Session, worker_id: UUID) -> None:
    """Its events came with its results, so what it spent of budgets is known, and the rest is free."""
    session.execute(_SETTLE, {"worker": worker_id})


_SETTLE = text("select settle_draws(:worker)")


def alive(session: Session) -> int:
    """Workers that are not closed."""
    query = select(func.count()).select_from(UsageSource).where(_is_worker(), UsageSource.closed_at.is_(None))
    return session.scalars(query).one()


def last_seen(session: Session) -> tuple[int, datetime | None]:
    """How many workers there have been, and when the last of them was heard."""
    query = select(func.count(), func.max(UsageSource.heartbeat_at)).where(_is_worker())
    workers, heard_at = session.execute(query).one()
    return workers, heard_at


def opened_after(session: Session, instant: datetime | None) -> int:
    """Workers that began after an instant; all, if there was none."""
    query = select(func.count()).select_from(UsageSource).where(_is_worker())
    if instant is not None:
        query = query.where(UsageSource.opened_at > instant)
    return session.scalars(query).one()


def _is_worker() -> ColumnElement[bool]:
    return (UsageSource.kind == "transaction") & UsageSource.name.startswith("batch worker ")


def _open(worker_id: UUID) -> ColumnElement[bool]:
    return (UsageSource.id == worker_id) & UsageSource.closed_at.is_(None)
