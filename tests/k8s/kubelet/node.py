"""A node whose pods run: a stand-in for the kubelet, on a control plane with controllers and a scheduler.

It looks for pods that the scheduler has bound to it, runs their containers as processes of this machine
(`container.py`), and writes their status as a kubelet does: init containers one after another, exit codes, the last
words of what failed, SIGTERM and after the grace SIGKILL for a pod that was deleted. For pods that are never restarted:
Jobs. It has no probes, pulls nothing, evicts nothing; its images are a table of the test's.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
import urllib.error
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from tests.k8s.control_plane import ControlPlane
from tests.k8s.kubelet.container import Container, Identity, Image
from tests.k8s.kubelet.volumes import NotThere, Objects, folders, variables

_MERGE = "application/merge-patch+json"
_BEAT_SECONDS, _LOOK_SECONDS = 5.0, 0.1
_LAST_WORDS = 2048  # as many bytes of a log as a kubelet makes a message of

Pod = dict[str, Any]


class RunningNode:
    """Alive inside the `with` block; what still runs then is killed."""

    def __init__(
        self,
        plane: ControlPlane,
        name: str,
        images: Mapping[str, Image],
        folder: Path,
        labels: Mapping[str, str],
        extended: Mapping[str, str],
    ) -> None:
        if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode:
            pytest.skip("NOT RUN: containers need root, for mounts of their own")
        self.plane, self.name = plane, name
        self._images, self._folder = images, folder
        self._labels, self._extended = labels, extended
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._pods: dict[str, RunningPod] = {}

    def __enter__(self) -> Self:
        metadata = {"name": self.name, "labels": {"kubernetes.io/hostname": self.name, **self._labels}}
        self.plane.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)
        for pod in self._pods.values():
            pod.kill()

    def pod(self, name: str) -> RunningPod:
        """One that it has run, also if it is gone."""
        return next(pod for pod in self._pods.values() if pod.name == name)

    def _run(self) -> None:
        next_beat = 0.0
        bound = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.name}"
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + _BEAT_SECONDS
                    self._beat()
                for pod in self.plane.ask("GET", bound)["items"]:
                    self._carry(pod)
            except (urllib.error.HTTPError, OSError):  # somebody else was faster, or the server is away: once more
                continue

    def _beat(self) -> None:
        amount = {"cpu": "64", "memory": "1Ti", "pods": "110", "ephemeral-storage": "2Ti", **self._extended}
        ready = {"type": "Ready", "status": "True", "reason": "StandIn", "message": ""}
        times = {"lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
        status = {"capacity": amount, "allocatable": amount, "conditions": [ready | times]}
        self.plane.ask("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status}, _MERGE)

    def _carry(self, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._pods:
            self._pods[uid] = RunningPod(self.plane, pod, self._images, self._folder / uid)
        running = self._pods[uid]
        if pod["metadata"].get("deletionTimestamp"):
            running.end(pod["metadata"].get("deletionGracePeriodSeconds", 0))
        running.step()
        if (status := running.status) != running.told:
            self.plane.ask("PATCH", f"{running.path}/status", {"status": status}, _MERGE)
            running.told = status
        if running.is_ending and running.is_over:
            self.plane.ask("DELETE", running.path, {"gracePeriodSeconds": 0})


class RunningPod:
    """One pod. A step does what can be done now, and never waits."""

    def __init__(self, plane: ControlPlane, pod: Pod, images: Mapping[str, Image], folder: Path) -> None:
        metadata = pod["metadata"]
        assert pod["spec"]["restartPolicy"] == "Never", "the stand-in restarts nothing"
        self.name, self.path = metadata["name"], f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self.told: dict[str, Any] | None = None
        self.is_ending = False
        self._pod, self._images, self._folder = pod, images, folder
        self._objects = Objects(plane, metadata["namespace"])
        self._initial = [one["name"] for one in pod["spec"].get("initContainers") or []]
        self._specs = {
            one["name"]: one for one in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        }
        self._containers: dict[str, Container] = {}
        self._states: dict[str, dict[str, Any]] = {
            name: {"waiting": {"reason": "PodInitializing" if self._initial else "ContainerCreating"}}
            for name in self._specs
        }
        self._killed_at = float("inf")

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs and nothing will."""
        return not any("running" in state for state in self._states.values()) and (
            self.is_ending or self._phase() in ("Succeeded", "Failed")
        )

    @property
    def status(self) -> dict[str, Any]:
        """As a kubelet tells it."""
        phase = self._phase()
        is_initialized = all(self._code(name) == 0 for name in self._initial)
        is_ready = phase == "Running" and is_initialized
        truths = {"Initialized": is_initialized, "Ready": is_ready, "ContainersReady": is_ready, "PodScheduled": True}
        return {
            "phase": phase,
            "conditions": [{"type": kind, "status": str(truth)} for kind, truth in truths.items()],
            "initContainerStatuses": [self._told_of(name) for name in self._initial],
            "containerStatuses": [self._told_of(name) for name in self._specs if name not in self._initial],
        }

    def step(self) -> None:
        """Note what has ended, start what may start."""
        for name, container in self._containers.items():
            if "running" in self._states[name] and (code := container.exit_code()) is not None:
                self._states[name] = {"terminated": self._end_of(name, code)}
        if time.monotonic() >= self._killed_at:
            self.kill()
        if self.is_ending or self._phase() in ("Succeeded", "Failed"):
            return
        for name in self._initial:
            if self._code(name) != 0:
                self._start(name)
                return
        for name in self._specs:
            self._start(name)

    def end(self, grace_seconds: float) -> None:
        """It was deleted."""
        if not self.is_ending:
            self.is_ending = True
            self._killed_at = time.monotonic() + grace_seconds
            for container in self._containers.values():
                container.signal(signal.SIGTERM)

    def kill(self) -> None:
        """As a kernel without memory does it."""
        for name, container in self._containers.items():
            if "running" in self._states[name]:
                container.kill()

    def log(self, container: str) -> str:
        """What it has written so far."""
        return self._containers[container].log() if container in self._containers else ""

    def _start(self, name: str) -> None:
        if name in self._containers:
            return
        spec, security = self._specs[name], self._pod["spec"]["securityContext"]
        image = self._images.get(spec["image"])
        if image is None:
            self._states[name] = {"waiting": {"reason": "ImagePullBackOff", "message": f"{spec['image']}: not found"}}
            return
        try:
            told = variables(spec, self._pod, self._objects)
            volumes = folders(self._pod, self._objects, self._folder / "volumes")
        except NotThere as missing:
            self._states[name] = {"waiting": {"reason": "CreateContainerConfigError", "message": str(missing)}}
            return
        mounts = {one["mountPath"]: volumes[one["name"]] for one in spec.get("volumeMounts") or []}
        self._containers[name] = Container(
            *(image, [*spec.get("command", []), *spec.get("args", [])], told, mounts, Identity.of(security)),
            read_only=spec.get("securityContext", {}).get("readOnlyRootFilesystem", False),
            root=self._folder / "roots" / name,
        )
        self._states[name] = {"running": {"startedAt": _now()}}

    def _phase(self) -> str:
        codes = {name: self._code(name) for name in self._specs}
        if any(codes[name] for name in self._initial):
            return "Failed"
        own = [code for name, code in codes.items() if name not in self._initial]
        if all(code is not None for code in own):
            return "Failed" if any(own) else "Succeeded"
        is_started = any(name in self._containers for name in self._specs if name not in self._initial)
        return "Running" if is_started else "Pending"

    def _code(self, name: str) -> int | None:
        ended = self._states[name].get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def _end_of(self, name: str, code: int) -> dict[str, Any]:
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": _now()}
        ended["startedAt"] = self._states[name]["running"]["startedAt"]
        if code and self._specs[name].get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = self._containers[name].log()[-_LAST_WORDS:]
        return ended

    def _told_of(self, name: str) -> dict[str, Any]:
        state = self._states[name]
        told = {"name": name, "image": self._specs[name]["image"], "imageID": "", "restartCount": 0}
        # A merge would leave what it was before.
        whole = {kind: state.get(kind) for kind in ("waiting", "running", "terminated")}
        return told | {"ready": "running" in state, "state": whole}


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
