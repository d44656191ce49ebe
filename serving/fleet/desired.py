"""How many replicas each variant should have. Level-triggered: the answer is computed anew from the catalog each time.

Opening hours and queues join the inputs of `desired` when a site has them. Who starts and stops engines is the node
agent; it reads the rows that `reconcile` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio.db.catalog import ModelVariant
from studio.db.fleet import DesiredReplicas


@dataclass(frozen=True, slots=True)
class SiteVariant:
    """A variant as this site's catalog declares it."""

    id: str
    deployed: bool
    site_replicas: int
    served_by: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas, and why."""

    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A decision that differs from the one before; `before` is None for a variant that had none."""

    variant_id: str
    before: int | None
    after: int
    reason: str


def desired(variants: Iterable[SiteVariant]) -> dict[str, Decision]:
    """The decision for each variant."""
    return {variant.id: _decide(variant) for variant in variants}


def reconcile(session: Session, now: datetime) -> list[Change]:
    """Write the decisions that changed; a variant that left the catalog loses its row."""
    columns = (ModelVariant.id, ModelVariant.deployed, ModelVariant.site_replicas, ModelVariant.served_by)
    variants = session.execute(select(*columns).where(ModelVariant.retired_at.is_(None)).order_by(ModelVariant.id))
    decisions = desired(SiteVariant(*row) for row in variants)
    current = dict(session.execute(select(DesiredReplicas.variant_id, DesiredReplicas.replicas)).tuples().all())
    changes = changes_between(current, decisions)
    for change in changes:
        row = {"replicas": change.after, "reason": change.reason, "decided_at": now}
        statement = insert(DesiredReplicas).values(variant_id=change.variant_id, **row)
        session.execute(statement.on_conflict_do_update(index_elements=[DesiredReplicas.variant_id], set_=row))
    if gone := current.keys() - decisions.keys():
        session.execute(delete(DesiredReplicas).where(DesiredReplicas.variant_id.in_(gone)))
    return changes


def changes_between(current: Mapping[str, int], decisions: Mapping[str, Decision]) -> list[Change]:
    """What has to be written so that `current` becomes `decisions`."""
    return [
        Change(variant_id, current.get(variant_id), decision.replicas, decision.reason)
        for variant_id, decision in decisions.items()
        if current.get(variant_id) != decision.replicas
    ]


def _decide(variant: SiteVariant) -> Decision:
    if not variant.deployed:
        return Decision(0, "not deployed at this site")
    if variant.served_by is not None:
        return Decision(0, f"served by the replicas of {variant.served_by}")
    return Decision(variant.site_replicas, "deployed at this site, open around the clock")
