"""What a request asks for, and why nothing answers it. Pure: a reading of the fleet in; no I/O, no HTTP.

Which replica answers is `balance.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

import msgspec

from serving.fleet.calendar import in_words
from serving.fleet.view import Adapter, Fleet, Replica, Variant
from studio.errors import InvalidRequest, ModelAsleep, ModelNotFound, ServiceUnavailable

_ADAPTER_LOADING = timedelta(seconds=2)


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


def is_ready(fleet: Fleet, target: Target) -> bool:
    """Whether a replica answers for the target now."""
    return any(
        replica.state == "ready" and (target.adapter is None or replica.id in target.adapter.replicas)
        for replica in fleet.replicas_for(target.variant)
    )


def unavailable(fleet: Fleet, target: Target, now: datetime) -> ServiceUnavailable:
    """Why nothing answers for the target: its engine sleeps, or has not loaded the adapter yet."""
    if fleet.state(target.variant) != "warm":
        return asleep(fleet, target.variant, now)
    return ServiceUnavailable(
        f"The model `{target.name}` is being loaded into its engine.", retry_after=_ADAPTER_LOADING
    )


def overloaded(target: Target, free_in: timedelta) -> ServiceUnavailable:
    """Why a request is refused at once although replicas answer: it would wait longer than it is worth."""
    return ServiceUnavailable(
        f"All replicas of `{target.name}` are busy and their queues are full. At the rate at which they have been"
        f" answering, there should be a place in about {max(1, ceil(free_in.total_seconds()))} s.",
        retry_after=free_in,
    )


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
