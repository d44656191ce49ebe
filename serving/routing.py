"""What a request asks for, and why nothing answers it. Pure: a reading of the fleet in; no I/O, no HTTP.

Which replica answers is `balance.py`.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

import msgspec

from serving.fleet import states
from serving.fleet.calendar import in_words
from serving.fleet.states import NOBODY
from serving.fleet.view import Adapter, Fleet, Replica, Variant
from studio.errors import InvalidRequest, ModelAsleep, ModelNotFound, ServiceUnavailable

_ADAPTER_LOADING = timedelta(seconds=2)
_RETRY = timedelta(seconds=2)  # what a caller is told when all replicas failed


def variant_named(fleet: Fleet, name: str) -> Variant:
    """The variant that a caller wrote into `model`."""
    variant = fleet.variants.get(name)
    if variant is None:
        raise ModelNotFound(name)
    return variant


class Target(msgspec.Struct, frozen=True):
    """What answers a request: a variant, perhaps with a tenant's adapter on top."""

    variant: Variant
    adapter: Adapter | None = None
    alias: str | None = None  # instead of its name, for a caller that compares blindly

    @property
    def name(self) -> str:
        """What the caller wrote."""
        return self.alias or (self.adapter.name if self.adapter else self.variant.id)

    @property
    def adapter_id(self) -> UUID | None:
        """For the usage event."""
        return self.adapter.id if self.adapter else None

    def engine_name(self, replica: Replica) -> str:
        """What the engine is told: a name of ours, never the caller's."""
        return self.adapter.engine_name if self.adapter else replica.engine_model


def target_named(fleet: Fleet, name: str, tenant_id: UUID) -> Target:
    """What the caller's `model` means to this tenant. Another tenant's adapter does not exist."""
    adapter = fleet.adapters.get(name)
    if adapter is None:
        return Target(variant_named(fleet, name))
    if adapter.tenant_id != tenant_id or adapter.variant_id not in fleet.variants:
        raise ModelNotFound(name)
    return Target(fleet.variants[adapter.variant_id], adapter)


def tunable_target(fleet: Fleet, name: str, tenant_id: UUID) -> Target:
    """The same, where it can be trained on examples. InvalidRequest for an adapter, or a model that takes none."""
    target = target_named(fleet, name, tenant_id)
    if target.adapter is not None or not target.variant.takes_adapters:
        raise InvalidRequest(f"The model `{name}` cannot be fine-tuned here.", param="model")
    return target


def is_ready(fleet: Fleet, target: Target, silent: AbstractSet[UUID] = NOBODY) -> bool:
    """Whether a replica answers for the target now, and not only by its row."""
    return any(
        replica.state == "ready"
        and replica.id not in silent
        and (target.adapter is None or replica.id in target.adapter.replicas)
        for replica in fleet.replicas_for(target.variant)
    )


def unavailable(fleet: Fleet, target: Target, now: datetime, silent: AbstractSet[UUID] = NOBODY) -> ServiceUnavailable:
    """Why nothing answers for the target: its engine sleeps, cannot be reached, or has not loaded the adapter yet."""
    match states.state(fleet, target.variant, now, silent):
        case "warm":
            said = f"The model `{target.name}` is being loaded into its engine."
            return ServiceUnavailable(said, retry_after=_ADAPTER_LOADING)
        case "unreachable":
            return unanswered(target, states.reason(fleet, target.variant, now))
        case _:
            return asleep(fleet, target.variant, now, silent)


def unanswered(target: Target, why: str | None = None) -> ServiceUnavailable:
    """Replicas are there, and none of them takes the request."""
    said = f"No replica of `{target.name}` answers at the moment" + (f": {why}." if why else ".")
    return ServiceUnavailable(said, retry_after=_RETRY)


def overloaded(target: Target, free_in: timedelta) -> ServiceUnavailable:
    """Why a request is refused at once although replicas answer: it would wait longer than it is worth."""
    return ServiceUnavailable(
        f"All replicas of `{target.name}` are busy and their queues are full. At the rate at which they have been"
        f" answering, there should be a place in about {max(1, ceil(free_in.total_seconds()))} s.",
        retry_after=free_in,
    )


def asleep(fleet: Fleet, variant: Variant, now: datetime, silent: AbstractSet[UUID] = NOBODY) -> ModelAsleep:
    """Why no replica is ready and when one will be, in words for the caller. Not for a variant that is warm."""
    state = states.state(fleet, variant, now, silent)
    ready_at, opens_at = states.ready_at(fleet, variant, now, silent), fleet.opens_at(variant, now)
    if state == "cold" and ready_at is not None and opens_at is not None:
        # Told on the clock of its hours and in their zone, as they are published.
        offset, zone = fleet.hours.offset, fleet.hours.zone_of(variant.running)
        why = f"it is closed and opens {in_words(opens_at, zone)}"
        return ModelAsleep(variant.id, (ready_at + offset).astimezone(zone), now + offset, why)
    why = {
        "not_deployed": "it is not deployed at this site",
        "cold": "it is switched off at the moment",
        "starting": "a replica is starting",
    }.get(state, "no replica of it answers")
    return ModelAsleep(variant.id, ready_at, now, why)
