"""How a variant is, in one word, and when it should answer. Pure.

Our own replicas say themselves whether they are ready. An attached engine's row says so for ever: that its pods are
closed at night, or start in the morning, is seen by asking it (`silent`), by the hours, and by what the driver of the
cluster has seen.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from serving.fleet.view import Fleet, Variant
from studio.db.fleet import AWAY_PATIENCE

# Unreachable: replicas are there or should be, and none of them answers the gateway that was asked.
VariantState = Literal["warm", "unreachable", "starting", "cold", "not_deployed"]

UNMEASURED_START = timedelta(minutes=30)  # as long as the engine chart's startup probe allows when nobody has measured
NOBODY: frozenset[UUID] = frozenset()

_IS_COMING = ("scaled", "busy", "starting")
_WORDS = {
    "image": "its image cannot be pulled",
    "configuration": "its release is not complete",
    "weights": "its weights could not be fetched, or are not those that were declared",
    "engine": "its engine ends again and again",
    "silent": "its engine is up and answers no request",
    "room": "no node has room or free cards for it",
    "quota": "a quota of the cluster does not allow it",
    "refused": "the cluster refuses its pods",
    "deadline": "it was not ready in its time",
    "drivers": "it is not clear who scales it, and an operator has to say",
    "scale": "the cluster does not take the number of its pods",
}


def state(fleet: Fleet, variant: Variant, now: datetime, silent: AbstractSet[UUID] = NOBODY) -> VariantState:
    """In one word, for people. `silent`: replicas that do not answer this gateway, whatever their rows say."""
    replicas = fleet.replicas_for(variant)
    ready = [one for one in replicas if one.state == "ready"]
    if any(one.id not in silent for one in ready):
        return "unreachable" if _answers_nothing(fleet, variant) else "warm"
    if not variant.deployed and not replicas:
        return "not_deployed"
    has_hours = variant.deployed and variant.desired_since is not None  # else nobody has ever decided on it
    if ready and not (has_hours and all(one.is_attached for one in ready)):
        return "unreachable"
    if variant.desired_replicas > 0 and (_is_stuck(fleet, variant) or (ready and not _is_coming(fleet, variant, now))):
        return "unreachable"
    is_starting = any(one.state == "starting" for one in replicas) or variant.desired_replicas > 0
    return "starting" if is_starting else "cold"


def ready_at(fleet: Fleet, variant: Variant, now: datetime, silent: AbstractSet[UUID] = NOBODY) -> datetime | None:
    """When a replica should answer; `now` if one does; None when none is on its way."""
    match state(fleet, variant, now, silent):
        case "warm":
            return now
        case "not_deployed" | "unreachable":
            return None
        case "cold":
            starts_at = fleet.hours.starts_at(variant.running, now + fleet.hours.offset)
            return None if starts_at is None else starts_at - fleet.hours.offset + variant.expected_warmup
        case "starting":
            # A start that already takes longer than usual is still expected soon, not in the past.
            expected = _started_at(fleet, variant, now) + variant.expected_warmup
            return max(expected, now + timedelta(seconds=1))


def reason(fleet: Fleet, variant: Variant, now: datetime) -> str | None:
    """Why it does not answer, as far as the driver of its cluster knows. In plain words that name nothing of it."""
    pods = fleet.pods.get(variant.replicas_of)
    if pods is None:
        return None
    if fleet.away_since is not None and now - fleet.away_since >= AWAY_PATIENCE:
        return f"its cluster has not been heard of since {fleet.away_since:%Y-%m-%d %H:%M} UTC"
    if variant.desired_replicas > 0 and pods.trouble is not None and pods.outcome not in _IS_COMING:
        return _WORDS[pods.trouble]
    return None


def _is_stuck(fleet: Fleet, variant: Variant) -> bool:
    pods = fleet.pods.get(variant.replicas_of)
    return pods is not None and pods.outcome in ("stuck", "conflict", "failed")


def _answers_nothing(fleet: Fleet, variant: Variant) -> bool:
    """Whether the driver has asked the engine and heard nothing, although it is up. Requests still try it."""
    pods = fleet.pods.get(variant.replicas_of)
    return pods is not None and (pods.outcome, pods.trouble) == ("stuck", "silent")


def _is_coming(fleet: Fleet, variant: Variant, now: datetime) -> bool:
    """Whether an attached engine that should run and does not answer may still be starting."""
    pods = fleet.pods.get(variant.replicas_of)
    if pods is not None and pods.outcome in _IS_COMING:
        return True
    allowed = 2 * variant.expected_warmup if variant.warmup_seconds else UNMEASURED_START
    return variant.desired_since is not None and now < variant.desired_since + allowed


def _started_at(fleet: Fleet, variant: Variant, now: datetime) -> datetime:
    replicas = fleet.replicas_for(variant)
    started = [one.created_at for one in replicas if one.state == "starting"]
    if started:
        return min(started)
    pods = fleet.pods.get(variant.replicas_of)
    if pods is not None and pods.unready_since is not None:
        return pods.unready_since
    is_attached = any(one.state == "ready" for one in replicas)  # and silent, or nothing would be starting
    return variant.desired_since or now if is_attached else now
