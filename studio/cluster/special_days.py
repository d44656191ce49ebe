"""Days on which KEDA's cron is wrong: holidays, and hours that a person has overridden.

KEDA knows weekdays only. On such a day its object is told to keep the number that the fleet has decided, by KEDA's own
annotation, and the day after it has the word again. An annotation that somebody else has put there is left alone. KEDA
stays the one that scales the Deployment: nothing is written there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from studio.cluster.connection import Cluster, ClusterConflict, ClusterRefused
from studio.cluster.scaling import DRIVER_LABEL, VARIANT_ANNOTATION
from studio.cluster.tenant_objects import Manifest
from studio.db.catalog import ModelVariant
from studio.db.fleet import DesiredReplicas
from studio.db.hours import SITE, Calendar, Holiday, HoursOverride

PAUSED = "autoscaling.keda.sh/paused-replicas"
OURS = "studio.xpulink.ai/paused-by-fleet"
_KEDAS = f"app.kubernetes.io/part-of=xpulink-ai-studio,{DRIVER_LABEL}=keda"

Outcome = Literal["written", "busy", "refused", "somebody else's"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pause:
    """What became of one ScaledObject whose annotation was not as it should be."""

    variant: str
    scaled_object: str
    replicas: int | None  # None: KEDA has the word again
    outcome: Outcome


def numbers(session: Session, now: datetime) -> dict[str, int]:
    """Of the variants whose day is special, what the fleet has decided. On the wall clock: a cluster has no other."""
    decided = select(ModelVariant.id, DesiredReplicas.replicas, ModelVariant.calendar_id).join(
        DesiredReplicas, DesiredReplicas.variant_id == ModelVariant.id
    )
    zones = dict(session.execute(select(Calendar.id, Calendar.time_zone)).tuples().all())
    today = {id: now.astimezone(ZoneInfo(zone)).date() for id, zone in zones.items()}
    closed = {one.calendar_id for one in session.scalars(select(Holiday)) if one.day == today[one.calendar_id]}
    overridden = set(
        session.scalars(
            select(HoursOverride.variant_id).where(
                HoursOverride.created_by != SITE,
                HoursOverride.replicas.is_not(None),
                HoursOverride.starts_at <= now,
                HoursOverride.ends_at.is_(None) | (HoursOverride.ends_at > now),
            )
        )
    )
    return {
        variant: replicas
        for variant, replicas, calendar in session.execute(decided).tuples()
        if variant in overridden or calendar in closed
    }


def keep(cluster: Cluster, namespace: str, special: Mapping[str, int]) -> list[Pause]:
    """Write or remove the annotation where it is not as it should be. ClusterAway, ClusterRefused."""
    variants = {
        found["metadata"]["name"]: found["metadata"].get("annotations", {}).get(VARIANT_ANNOTATION, "")
        for found in cluster.list("Deployment", namespace, _KEDAS)
    }
    pauses = []
    for found in cluster.list("ScaledObject", namespace) if variants else ():
        variant = variants.get(found["spec"]["scaleTargetRef"]["name"])
        if variant is None:
            continue
        annotations = found["metadata"].get("annotations", {})
        paused, is_ours = annotations.get(PAUSED), OURS in annotations
        replicas = special.get(variant)
        wanted = None if replicas is None else str(replicas)
        if paused == wanted or (paused is not None and not is_ours and wanted is None):
            continue
        outcome: Outcome = "somebody else's"
        if paused is None or is_ours:
            outcome = _write(cluster, found, wanted)
            log.info("keda_paused", variant=variant, replicas=wanted, outcome=outcome)
        pauses.append(Pause(variant, found["metadata"]["name"], replicas, outcome))
    return pauses


def _write(cluster: Cluster, found: Manifest, wanted: str | None) -> Outcome:
    """One object's trouble keeps the driver from nothing else."""
    try:
        cluster.annotate("ScaledObject", found, {PAUSED: wanted, OURS: None if wanted is None else "true"})
    except ClusterConflict:
        return "busy"
    except ClusterRefused:
        return "refused"
    return "written"
