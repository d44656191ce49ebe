"""Why pods do not work, in one word of ours and in Kubernetes' own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from studio.cluster.tenant_objects import Manifest

Kind = Literal[
    "image",  # cannot be pulled
    "configuration",  # a secret, a claim, a command that is not there
    "weights",  # the container that brings and checks them fails
    "engine",  # ends again and again
    "silent",  # is ready and answers no request
    "room",  # no node has what the pod asks for
    "quota",  # allows no such pod
    "refused",  # by Pod Security or another admission
    "deadline",  # not ready in the time that its release gives it
    "drivers",  # more than one, or none: a person decides
    "scale",  # the API server does not take our number
]

OVER = ("Succeeded", "Failed")  # phases of pods that do nothing any more
_ON_ITS_WAY = ("PodInitializing", "ContainerCreating")
# From then on it is no accident, also in the seconds in which it runs again: a state must not flap.
_RESTARTS = 3
_LINGERS = timedelta(seconds=60)  # after its grace a pod that is still there is on a node that is lost


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps an engine from working. `is_settled` is false while it may still be an accident."""

    kind: Kind
    said: str
    is_settled: bool = True


def trouble_of(pods: Iterable[Manifest]) -> Trouble | None:
    """The first that is found, settled ones before others. None when all work or are on their way."""
    found = [trouble for pod in pods for trouble in _troubles(pod)]
    return next((trouble for trouble in found if trouble.is_settled), found[0] if found else None)


def refusal_of(deployment: Manifest) -> Trouble | None:
    """What the Deployment itself says: its pods are refused, or it makes no progress. None while it says neither."""
    for condition in deployment.get("status", {}).get("conditions") or []:
        said = f"{condition.get('reason', '')}: {condition.get('message', 'no message')}"[:300]
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Trouble("quota" if "exceeded quota" in said else "refused", said)
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Trouble("deadline", said)
    return None


def newest_first(pods: Iterable[Manifest]) -> list[Manifest]:
    """The one that was made last comes first."""
    return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)


def last_words(pods: Iterable[Manifest]) -> str:
    """What the newest container said that failed, of pods that are not restarted. Empty: none has failed."""
    for pod in newest_first(pods):
        status = pod.get("status", {})
        for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            ended = (one.get("state") or {}).get("terminated") or {}
            if ended.get("exitCode"):
                return _said(one["name"], f"exit status {ended['exitCode']}", ended)
    return ""


def is_ending(pod: Manifest, now: datetime) -> bool:
    """Whether it still holds its cards and gives them back by itself."""
    ends_at = pod["metadata"].get("deletionTimestamp")  # its grace included
    if ends_at is None or pod.get("status", {}).get("phase") in OVER:
        return False
    return now < datetime.fromisoformat(ends_at) + _LINGERS


def _troubles(pod: Manifest) -> Iterator[Trouble]:
    status = pod.get("status", {})
    if status.get("phase") in OVER or pod["metadata"].get("deletionTimestamp"):
        return
    for one in status.get("initContainerStatuses") or []:
        yield from _of_container(one, "weights")
    for one in status.get("containerStatuses") or []:
        yield from _of_container(one, "engine")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason = condition.get("reason", "Unschedulable")
            yield Trouble("room", f"{reason}: {condition.get('message', 'no message')}")


def _of_container(one: dict[str, Any], kind: Kind) -> Iterator[Trouble]:
    state = one.get("state") or {}
    ended = state.get("terminated") or (one.get("lastState") or {}).get("terminated") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", _ON_ITS_WAY[0])
    if reason not in (*_ON_ITS_WAY, "CrashLoopBackOff"):
        yield Trouble("image" if "Image" in reason else "configuration", _said(one["name"], reason, ended or waiting))
    elif one.get("restartCount", 0) and not one.get("ready") and (ended or waiting.get("reason") == "CrashLoopBackOff"):
        is_settled = one["restartCount"] >= _RESTARTS
        times = "ends again and again" if is_settled else "has ended"
        yield Trouble(kind, _said(one["name"], times, ended or waiting), is_settled)


def _said(container: str, reason: str, detail: dict[str, Any]) -> str:
    """With what the container said last: `terminationMessagePolicy` brings the end of its log here."""
    message = str(detail.get("message") or detail.get("reason") or "no message").strip().splitlines()[-1]
    return f"{container}: {reason}: {message[:300]}"
