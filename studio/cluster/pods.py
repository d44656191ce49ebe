"""Why pods do not work, in Kubernetes' own words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from studio.cluster.tenant_objects import Manifest

OVER = ("Succeeded", "Failed")  # phases of pods that do nothing any more
_ON_ITS_WAY = ("PodInitializing", "ContainerCreating")
_RESTARTS = 3  # from then on it is no accident, also in the seconds in which it runs again: a state must not flap


def trouble_of(pods: Iterable[Manifest]) -> str:
    """The first reason that is found: an image, a configuration, no free card, a container that ends again and again.

    Empty when all work or are on their way.
    """
    return next((reason for pod in pods for reason in _reasons(pod)), "")


def _reasons(pod: Manifest) -> Iterator[str]:
    status = pod.get("status", {})
    if status.get("phase") in OVER:
        return
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = one.get("state") or {}
        ended = state.get("terminated") or (one.get("lastState") or {}).get("terminated") or {}
        waiting = state.get("waiting") or {}
        if waiting.get("reason", _ON_ITS_WAY[0]) not in _ON_ITS_WAY:
            yield _said(one["name"], waiting["reason"], ended or waiting)
        elif one.get("restartCount", 0) >= _RESTARTS and not one.get("ready") and ended:
            yield _said(one["name"], f"ended {one['restartCount']} times", ended)
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', 'no message')}"


def _said(container: str, reason: str, detail: dict[str, Any]) -> str:
    """With what the container said last: `terminationMessagePolicy` brings the end of its log here."""
    message = str(detail.get("message") or detail.get("reason") or "no message").strip().splitlines()[-1]
    return f"{container}: {reason}: {message[:300]}"
