"""How a Deployment does that has fewer ready pods than it should: on its way, or stuck and why. Pure.

What Kubernetes says changes from second to second while a pod is replaced or a container is tried again. A state must
not, so what may pass by itself counts only once it has lasted, and how long it has lasted is remembered between ticks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from studio.cluster.pods import Kind, Trouble, is_ending, refusal_of, trouble_of
from studio.cluster.tenant_objects import Manifest

_PATIENCE: dict[Kind, timedelta] = {
    # A pod that ends gives its place back, and scheduler and controllers look again only after a while.
    "room": timedelta(seconds=60),
    "quota": timedelta(seconds=60),
}
_DEADLINE_SECONDS = 600  # Kubernetes' own default


@dataclass(frozen=True, slots=True)
class Before:
    """What the tick before has seen of a variant."""

    trouble: str | None = None  # its kind
    trouble_since: datetime | None = None
    unready_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What is seen now, and since when."""

    trouble: Trouble | None = None
    trouble_since: datetime | None = None
    unready_since: datetime | None = None  # None while it does not even start
    is_stuck: bool = False


def health(deployment: Manifest, pods: Iterable[Manifest], before: Before, now: datetime) -> Health:
    """Of a Deployment that has not all its pods ready; `pods` are those of its namespace."""
    everybody = list(pods)
    labels = deployment["spec"]["selector"]["matchLabels"].items()
    own = [pod for pod in everybody if labels <= pod["metadata"].get("labels", {}).items()]
    unready_since = before.unready_since or now
    trouble = trouble_of(own)
    if trouble is None or not trouble.is_settled:
        trouble = refusal_of(deployment) or _late(deployment, now - unready_since) or trouble
    if trouble is None:
        return Health(unready_since=unready_since)
    if trouble.kind in _PATIENCE and any(is_ending(pod, now) for pod in everybody):
        # A roll on full cards: the old pod goes first. Nothing is wrong yet.
        waits = Trouble(trouble.kind, f"waits for what a pod that ends still holds; {trouble.said}", is_settled=False)
        return Health(waits)
    began = since(before, trouble, now)
    has_lasted = now - began >= _PATIENCE.get(trouble.kind, timedelta(0))
    # Waiting for a place, an image or a person is no start: that begins, and is measured, from when it is over.
    is_start = not trouble.is_settled or trouble.kind == "deadline"
    return Health(trouble, began, unready_since if is_start else None, is_stuck=trouble.is_settled and has_lasted)


def since(before: Before, trouble: Trouble, now: datetime) -> datetime:
    """When a trouble began: it may have been seen before."""
    return before.trouble_since or now if before.trouble == trouble.kind else now


def _late(deployment: Manifest, waited: timedelta) -> Trouble | None:
    """Kubernetes judges a new release only. A release that was scaled up from zero has the same time, by us."""
    seconds = deployment["spec"].get("progressDeadlineSeconds", _DEADLINE_SECONDS)
    if waited <= timedelta(seconds=seconds):
        return None
    return Trouble("deadline", f"not ready within its {seconds} s (progressDeadlineSeconds)")
