"""Writes the desired replicas of every variant, and tells what stands there. The decisions are `desired.py`'s."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from serving.fleet.calendar import in_words
from serving.fleet.desired import Change, SiteVariant, changes_between
from serving.fleet.hours import Hours, read_hours
from studio.db.catalog import ModelVariant
from studio.db.fleet import DesiredReplicas, Replica
from studio.db.jobs import Batch


@dataclass(frozen=True, slots=True)
class FleetLine:
    """One deployed variant, as an operator reads it."""

    variant: str
    calendar: str
    open: bool
    desired: int
    ready: int
    reason: str
    next_change: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was changed, and what holds now."""

    changes: list[Change]
    fleet: list[FleetLine]


def reconcile(session: Session, now: datetime) -> Reconciliation:
    """Write the decisions that changed. `now` is real; opening hours follow their own clock.

    A variant that left the catalog loses its row.
    """
    hours = read_hours(session)
    variants = site_variants(session)
    waiting = _waiting_lines(session)
    decisions = {
        variant.id: hours.decide(variant, now + hours.offset, waiting.get(variant.id, 0)) for variant in variants
    }
    columns = (DesiredReplicas.variant_id, DesiredReplicas.replicas, DesiredReplicas.reason)
    current = {id: (replicas, reason) for id, replicas, reason in session.execute(select(*columns)).tuples()}
    changes = changes_between(current, decisions)
    for change in changes:
        row = {"replicas": change.after, "reason": change.reason, "decided_at": now}
        statement = insert(DesiredReplicas).values(variant_id=change.variant_id, **row)
        session.execute(statement.on_conflict_do_update(index_elements=[DesiredReplicas.variant_id], set_=row))
    if gone := current.keys() - decisions.keys():
        session.execute(delete(DesiredReplicas).where(DesiredReplicas.variant_id.in_(gone)))
    ready = ready_replicas(session)
    own = [variant for variant in variants if variant.deployed and variant.served_by is None]
    return Reconciliation(
        changes,
        [
            FleetLine(
                variant=variant.id,
                calendar=str(hours.calendar_of(variant) or "around the clock"),
                open=decisions[variant.id].is_open,
                desired=decisions[variant.id].replicas,
                ready=ready.get(variant.id, 0),
                reason=decisions[variant.id].reason,
                next_change=_next_change(hours, variant, now + hours.offset),
            )
            for variant in own
        ],
    )


def site_variants(session: Session) -> list[SiteVariant]:
    """All variants of the catalog, as this site runs them."""
    columns = (
        ModelVariant.id, ModelVariant.deployed, ModelVariant.site_replicas, ModelVariant.served_by,
        ModelVariant.closed_replicas, ModelVariant.calendar_id,
    )  # fmt: skip
    rows = session.execute(select(*columns).where(ModelVariant.retired_at.is_(None)).order_by(ModelVariant.id))
    return [SiteVariant(*row) for row in rows]


def ready_replicas(session: Session) -> dict[str, int]:
    """How many replicas of each variant answer."""
    by_variant = select(Replica.variant_id, func.count()).where(Replica.state == "ready").group_by(Replica.variant_id)
    return dict(session.execute(by_variant).tuples().all())


def _waiting_lines(session: Session) -> dict[str, int]:
    """Lines of batches that are not answered yet, by the variant whose replicas answer them."""
    answering = func.coalesce(ModelVariant.served_by, ModelVariant.id)
    waiting = func.sum(Batch.lines_total - Batch.lines_completed - Batch.lines_failed)
    rows = session.execute(
        select(answering, waiting)
        .join(ModelVariant, ModelVariant.id == Batch.variant_id)
        .where(Batch.state == "in_progress")
        .group_by(answering)
    )
    return {variant_id: int(lines) for variant_id, lines in rows.tuples()}


def _next_change(hours: Hours, variant: SiteVariant, now: datetime) -> str:
    change = hours.next_change(variant, now)
    if change is None:
        return "none"
    at, decision = change
    return f"{decision.replicas} from {in_words(at, hours.zone_of(variant))}"
