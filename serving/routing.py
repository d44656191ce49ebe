"""Which replica answers a request. Pure: a reading of the fleet and counts in, a replica out; no I/O, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from uuid import UUID

from serving.fleet.calendar import in_words
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
    ready_at, opens_at = fleet.ready_at(variant, now), fleet.opens_at(variant, now)
    if fleet.state(variant) == "cold" and ready_at is not None and opens_at is not None:
        # Told on the clock of its hours and in their zone, as they are published.
        offset, zone = fleet.hours.offset, fleet.hours.zone_of(variant.running)
        why = f"it is closed and opens {in_words(opens_at, zone)}"
        return ModelAsleep(variant.id, (ready_at + offset).astimezone(zone), now + offset, why)
    why = {
        "not_deployed": "it is not deployed at this site",
        "cold": "it is switched off at the moment",
        "starting": "a replica is starting",
    }[fleet.state(variant)]
    return ModelAsleep(variant.id, ready_at, now, why)
