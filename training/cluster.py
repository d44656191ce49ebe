"""Trainers as Jobs of a cluster. A Job outlives the run that made it; the next run finds it by its name and goes on.

Level-triggered: every look compares what there is with what there should be, so an API server that was away, a run that
died, or a Job that somebody removed are found by the next look. Nothing is ever made beside a pod that still writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from studio import weights
from studio.catalog.declaration import DeclaredTraining
from studio.cluster.connection import Cluster, ClusterAway, ClusterConflict, ClusterRefused
from studio.cluster.pods import OVER, last_words, newest_first, trouble_of
from studio.cluster.tenant_objects import Manifest
from studio.errors import StudioError
from studio.objects import ObjectStore
from training.adapter_check import Shape, stored_tensor_shapes
from training.job_manifest import (
    FINE_TUNE_LABEL,
    GRACE_SECONDS,
    QUEUE_LABEL,
    TRAINER,
    StoreAccess,
    base_path,
    job_name,
    training_job,
)
from training.jobs import FineTune
from training.spec import TrainerJob
from training.trainers import TrainerDied

log = structlog.get_logger()

_LOOK_SECONDS = 5.0


class TrainerStillThere(StudioError):
    """A pod was told to end and has not: it may still write."""


@dataclass(frozen=True, slots=True)
class ClusterTrainers:
    """Trainers of one site's cluster."""

    store: ObjectStore
    access: StoreAccess
    declared: DeclaredTraining
    gpu_resource: str
    connect: Callable[[], Cluster] = Cluster.from_environment
    look_seconds: float = _LOOK_SECONDS

    def is_at_work(self, job: FineTune) -> bool | None:
        """Whether its Job is there, ended or not; None while the API server is away."""
        try:
            with closing(self.connect()) as cluster:
                return cluster.read("Job", job_name(job.id), self.declared.namespace) is not None
        except ClusterAway:
            return None

    def base_folder(self, weights_id: str) -> Path:
        """Where it will lie in the pod; nothing is brought to where the run is."""
        return Path(base_path(weights.read_manifest(self.store, weights_id)))

    def base_shapes(self, weights_id: str) -> Mapping[str, Shape]:
        """From the headers in the object store."""
        return stored_tensor_shapes(self.store, weights.read_manifest(self.store, weights_id))

    @contextmanager
    def training(self, job: FineTune, task: TrainerJob | None, folder: Path) -> Iterator[TrainingJob]:
        """The Job. It goes on after this block, unless it was stopped."""
        manifest = None if task is None else self._manifest(job, task)
        with closing(self.connect()) as cluster:
            yield TrainingJob(cluster, self.declared.namespace, job, manifest, self.look_seconds)

    def end(self, job: FineTune) -> None:
        """Remove its Job. TrainerStillThere while a pod of it has not gone: ask again."""
        with closing(self.connect()) as cluster:
            TrainingJob(cluster, self.declared.namespace, job, None, self.look_seconds).stop(patience_seconds=0)

    def _manifest(self, job: FineTune, task: TrainerJob) -> Manifest:
        base = weights.read_manifest(self.store, job.weights_id)
        return training_job(self.declared, self.gpu_resource, self.access, job_id=job.id, base=base, task=task)


class TrainingJob:
    """One Job, from before it is made until it is over."""

    def __init__(
        self, cluster: Cluster, namespace: str, job: FineTune, manifest: Manifest | None, look_seconds: float
    ) -> None:
        self._cluster, self._namespace, self._manifest = cluster, namespace, manifest
        self._name, self._selector = job_name(job.id), f"{FINE_TUNE_LABEL}={job.id.hex}"
        self._look_seconds = look_seconds
        self._looked_at = float("-inf")
        self._was_there = manifest is None
        self._trouble = ""

    def poll(self) -> int | None:
        """As `Training` has it. A Job that has failed is removed, so that its name is free for the next attempt."""
        if time.monotonic() - self._looked_at < self._look_seconds:
            return None
        self._looked_at = time.monotonic()
        try:
            return self._look()
        except (ClusterAway, ClusterRefused) as error:  # what trains goes on; a quota or a right may come back
            self._say(error.message)
            return None

    def trouble(self) -> str:
        """As of the last look."""
        return self._trouble

    def stop(self, patience_seconds: float = 2 * GRACE_SECONDS) -> None:
        """Remove the Job, and wait for its pods. TrainerStillThere when one outlives our patience."""
        self._cluster.delete("Job", self._name, self._namespace)
        until = time.monotonic() + patience_seconds
        while self._pods_that_write():
            if time.monotonic() >= until:
                raise TrainerStillThere(f"A pod of {self._name} has not ended yet.")
            time.sleep(min(self._look_seconds, 1.0))

    def _look(self) -> int | None:
        found = self._cluster.read("Job", self._name, self._namespace)
        if found is None:
            self._make()
            return None
        self._was_there = True
        pods = self._pods()
        ended = _ended(found)
        if ended is None:
            self._say(waits_for(found, pods))
            return None
        self._say("")
        if ended["type"] == "Complete":
            return 0
        code = _exit_code(pods)
        self._cluster.delete("Job", self._name, self._namespace)
        if code is None:
            said = f"the Job ended as {ended.get('reason', 'Failed')}: {ended.get('message', 'no message')}"
            last = last_words(pods)
            raise TrainerDied(f"{said}; its last pod said: {last}" if last else said)
        return code

    def _make(self) -> None:
        if self._was_there:
            raise TrainerDied("the Job is gone: somebody removed it, or its time after the end was over")
        if self._pods_that_write():
            self._say("A pod of an earlier Job has not ended yet")
            return
        assert self._manifest is not None
        try:
            self._cluster.create(self._manifest)
        except ClusterConflict:
            log.info("training_job_found", job=self._name)  # another run was faster, and it is the same Job
        else:
            log.info("training_job_made", job=self._name, namespace=self._namespace)
        self._was_there = True
        self._say("")

    def _pods(self) -> list[Manifest]:
        return self._cluster.list("Pod", self._namespace, self._selector)

    def _pods_that_write(self) -> list[Manifest]:
        return [pod for pod in self._pods() if pod.get("status", {}).get("phase") not in OVER]

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.info("training_job_state", job=self._name, trouble=trouble or "none")
        self._trouble = trouble


def waits_for(job: Manifest, pods: list[Manifest]) -> str:
    """What keeps a Job from its end that has none yet; empty while it trains."""
    if job["metadata"].get("deletionTimestamp") is not None:
        return "The Job is being removed"
    if job["spec"].get("suspend"):
        queue = job["metadata"].get("labels", {}).get(QUEUE_LABEL)
        return (
            f"The Job waits in Kueue's queue {queue!r}" if queue else "The Job is suspended: somebody has to resume it"
        )
    trouble = trouble_of(pods)
    if trouble is not None and trouble.is_settled:
        return trouble.said
    if pods and all(pod.get("status", {}).get("phase") in OVER for pod in pods) and (last := last_words(pods)):
        return f"A pod has failed, and Kubernetes tries another after a while: {last}"
    return ""


def _ended(job: Manifest) -> dict[str, Any] | None:
    """The condition that says so."""
    conditions = job.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] in ("Complete", "Failed") and one["status"] == "True"), None)


def _exit_code(pods: list[Manifest]) -> int | None:
    """The trainer's, in the pod that was started last."""
    newest = next(iter(newest_first(pods)), {})
    for status in newest.get("status", {}).get("containerStatuses") or []:
        if status["name"] == TRAINER and (ended := status.get("state", {}).get("terminated")):
            return int(ended["exitCode"])
    return None
