"""Jobs of Dagster's runs that are over, on a real Kubernetes API server.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from assets.cluster import ClusterSite
from studio.cluster.run_jobs import RUN_LABEL
from studio.settings import REPOSITORY
from tests.k8s.control_plane import ControlPlane
from tests.k8s.rendering import DIGEST
from tests.k8s.site_cluster import CLUSTER_OF_THE_SITE
from tests.orchestration.location import Location


def test_jobs_of_runs_that_are_over_are_removed_and_no_others(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the sensor, after a while in which a pod may go by itself. A run of another instance's is not ours to end."""
    folder = tmp_path / "catalog"
    shutil.copytree(REPOSITORY / "catalog", folder)
    with (folder / "sites/local.yaml").open("a") as file:
        file.write(f"{CLUSTER_OF_THE_SITE}  platform: runs\n")
    plane.succeed("kubectl", "create", "namespace", "runs")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))

    @dg.job
    def some_job() -> None:
        """Ends at once."""

    with dg.DagsterInstance.ephemeral() as instance:
        over = some_job.execute_in_process(instance=instance).run_id
        fresh = some_job.execute_in_process(instance=instance).run_id
        alive = instance.create_run_for_job(some_job, status=dg.DagsterRunStatus.STARTED).run_id
        for run, active in ((over, 1), (fresh, 1), (alive, 1), ("of-another-instance", 1), ("ended", 0)):
            container = {"name": "run", "image": f"registry.example/dagster@{DIGEST}"}
            job = {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": f"dagster-run-{run}", "namespace": "runs", "labels": {RUN_LABEL: run}},
                "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
            }
            plane.succeed("kubectl", "create", "--validate=false", "--filename", "-", text=json.dumps(job))
            stored = plane.object("job", f"dagster-run-{run}", "runs") | {"status": {"active": active}}
            path = f"/apis/batch/v1/namespaces/runs/jobs/dagster-run-{run}/status"
            plane.succeed("kubectl", "replace", "--raw", path, "--filename", "-", text=json.dumps(stored))
        location = Location({"cluster_site": ClusterSite(folder, "local")}, instance)

        def ticks_after(seconds: float, run: str) -> str:
            """What the sensor says when this run has been over for so long."""
            ended = time.time() - seconds
            storage = instance.run_storage
            assert isinstance(storage, SqlRunStorage)
            with storage.connect() as connection:
                connection.execute(RunsTable.update().where(RunsTable.c.run_id == run).values(end_time=ended))
            with location.tick("orphaned_jobs") as said:
                return str(said.skip_message)

        assert ticks_after(60, over) == "Jobs removed: none."
        assert ticks_after(610, over) == f"Jobs removed: dagster-run-{over}."
        assert ticks_after(610, over) == "Jobs removed: none."
    left = plane.succeed("kubectl", "get", "jobs", "--namespace", "runs", "--output", "name").split()
    assert left == sorted(f"job.batch/dagster-run-{run}" for run in (fresh, alive, "of-another-instance", "ended"))
