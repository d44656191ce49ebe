"""Kubernetes Jobs of Dagster's runs: those that still have pods although their run is over.

Dagster marks a run that did not start in time as failed and leaves its Job behind, which would hold its cards or claims
for ever. Jobs that end by themselves are removed by their `ttlSecondsAfterFinished`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from studio.cluster.connection import Cluster

RUN_LABEL = "dagster/run-id"


@dataclass(frozen=True, slots=True)
class OrphanedJob:
    """A Job whose run is over, or that no run is known of."""

    job: str
    run_id: str
    pods: int


def orphaned(cluster: Cluster, namespace: str, is_over: Callable[[str], bool]) -> list[OrphanedJob]:
    """All Jobs with pods whose run `is_over`."""
    return [
        OrphanedJob(found["metadata"]["name"], run_id, pods)
        for found in cluster.list("Job", namespace, RUN_LABEL)
        if (pods := found.get("status", {}).get("active", 0))
        and is_over(run_id := found["metadata"]["labels"][RUN_LABEL])
    ]
