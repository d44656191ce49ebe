"""Two nodes with eight cards each, made of nothing, for a control plane with controllers and a scheduler.

Pods that the scheduler has bound become ready, and go when they are told to. Containers never run.
"""

from __future__ import annotations

import threading
import urllib.error
from datetime import UTC, datetime
from typing import Any, Self

from tests.k8s.control_plane import ControlPlane

CARD, CARDS = "metax-tech.com/gpu", 8
_MERGE = "application/merge-patch+json"
_BEAT_SECONDS = 5.0  # without it the node controller taints the node


class FakeNodes:
    """Alive inside the `with` block."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.lingering: set[str] = set()  # namespaces whose pods take their time to end

    def __enter__(self) -> Self:
        for name in ("node-1", "node-2"):
            labels = {"kubernetes.io/hostname": name, "metax-tech.com/gpu.installed": "true"}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
            self.plane.ask("POST", "/api/v1/nodes", node)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)

    def _run(self) -> None:
        next_beat = datetime.min.replace(tzinfo=UTC)
        while not self._ended.wait(0.1):
            try:
                if (now := datetime.now(UTC)) >= next_beat:
                    next_beat = datetime.fromtimestamp(now.timestamp() + _BEAT_SECONDS, UTC)
                    self._beat()
                for pod in self.plane.ask("GET", "/api/v1/pods")["items"]:
                    self._carry(pod)
            except (urllib.error.HTTPError, OSError):  # somebody else was faster, or the server is busy: once more
                continue

    def _beat(self) -> None:
        amount = {"cpu": "640", "memory": "8Ti", "pods": "110", "ephemeral-storage": "2Ti", CARD: str(CARDS)}
        ready = {"type": "Ready", "status": "True", "reason": "Fake", "message": ""}
        times = {"lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
        status = {"capacity": amount, "allocatable": amount, "conditions": [ready | times]}
        for name in ("node-1", "node-2"):
            self.plane.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, _MERGE)

    def _carry(self, pod: dict[str, Any]) -> None:
        metadata, status = pod["metadata"], pod.get("status", {})
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if metadata.get("deletionTimestamp"):
            if metadata["namespace"] not in self.lingering:
                self.plane.ask("DELETE", path, {"gracePeriodSeconds": 0})
        elif pod["spec"].get("nodeName") and status.get("phase") == "Pending":
            kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            conditions = [{"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in kinds]
            running = {"ready": True, "restartCount": 0, "imageID": "", "state": {"running": {"startedAt": _now()}}}
            containers = [{"name": one["name"], "image": one["image"], **running} for one in pod["spec"]["containers"]]
            told = {"phase": "Running", "conditions": conditions, "containerStatuses": containers}
            self.plane.ask("PATCH", f"{path}/status", {"status": told}, _MERGE)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
