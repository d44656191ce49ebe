"""Which replica answers a request. Pure: a reading of the fleet and counts in, a replica out; no I/O, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from uuid import UUID

from serving.fleet.view import Fleet, Replica, Variant
from studio.errors import ModelAsleep, ModelNotFound


def variant_named(fleet: Fleet, name: str) -> Variant:
    """The variant that a caller wrote into `model`."""
    variant = fleet.variants.get(name)
    if variant is None:
        raise ModelNotFound(name)
    return variant


def choose_replica(
    fleet: Fleet, variant: Variant, outstanding: Mapping[UUID, int], tried: AbstractSet[UUID]
) -> Replica | None:
    """The ready replica with the fewest requests of ours; None when none is left that was not tried."""
    ready = [replica for replica in fleet.replicas_for(variant) if replica.state == "ready" and replica.id not in tried]
    return min(ready, key=lambda replica: outstanding.get(replica.id, 0), default=None)


def asleep(fleet: Fleet, variant: Variant, now: datetime) -> ModelAsleep:
    """Why no replica is ready and when one will be, in words for the caller. Not for a variant that is warm."""
    why = {
        "not_deployed": "it is not deployed at this site",
        "cold": "it is switched off at the moment",
        "starting": "a replica is starting",
    }[fleet.state(variant)]
    return ModelAsleep(variant.id, fleet.ready_at(variant, now), now, why)
