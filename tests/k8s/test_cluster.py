"""What we write into a cluster, on a real Kubernetes API server: tenants' namespaces, and the pods of engines.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import Engine, insert

from assets.cluster import ClusterSite
from studio.catalog.declaration import DeclaredCluster
from studio.cluster.connection import Cluster, ClusterAway, ClusterConflict, ClusterUnknown
from studio.cluster.run_jobs import RUN_LABEL, orphaned
from studio.cluster.scaling import ScaleState, drive
from studio.cluster.tenant_objects import ClusterTenant
from studio.cluster.tenants import TenantState, reconcile
from studio.db.fleet import DesiredReplicas
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.k8s.control_plane import ControlPlane, assets, running
from tests.k8s.rendering import DIGEST, ENGINE, merged, only, template
from tests.k8s.wire import Wire
from tests.orchestration.location import Location
from tests.server import TestDatabase, free_port
from tests.serving.gateway_process import GatewayProcess

DECLARED = DeclaredCluster.model_validate(
    {"gateway": {"namespace": "studio", "port": 8080}, "s3": {"namespace": "studio", "port": 8333}}
)
ACME, GLOBEX = ClusterTenant(UUID(int=1), "acme"), ClusterTenant(UUID(int=2), "globex")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running(assets(), tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture
def cluster(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    with closing(Cluster.from_environment()) as cluster:
        yield cluster


def by_slug(states: list[TenantState]) -> dict[str, TenantState]:
    return {state.tenant: state for state in states}


def test_a_namespace_is_made_kept_and_mended(plane: ControlPlane, cluster: Cluster) -> None:
    seen = reconcile(cluster, DECLARED, [ACME, GLOBEX], mend=False)
    assert [state.outcome for state in seen] == ["drifted", "drifted"]
    assert plane.run("kubectl", "get", "namespace", "tenant-acme").returncode != 0  # looking changes nothing
    made = reconcile(cluster, DECLARED, [ACME, GLOBEX])
    assert [(state.outcome, state.error) for state in made] == [("mended", ""), ("mended", "")]
    again = reconcile(cluster, DECLARED, [ACME, GLOBEX])
    assert [(state.outcome, state.differences) for state in again] == [("in order", ()), ("in order", ())]

    # Somebody raises a limit, opens the network twice over, and lets pods be privileged.
    patch = json.dumps({"spec": {"hard": {"pods": "999", "count/secrets": "1"}}})
    plane.succeed("kubectl", "patch", "resourcequota", "tenant", "--namespace", "tenant-acme", "--patch", patch)
    plane.succeed("kubectl", "delete", "networkpolicy", "deny-all", "--namespace", "tenant-acme")
    everything = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": "tenant-acme"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }
    plane.succeed("kubectl", "create", "--filename", "-", text=json.dumps(everything))
    label = "pod-security.kubernetes.io/enforce=privileged"
    plane.succeed("kubectl", "label", "--overwrite", "namespace", "tenant-acme", label, "team=blue")

    mended = by_slug(reconcile(cluster, DECLARED, [ACME, GLOBEX]))
    assert mended["globex"].outcome == "in order"
    assert mended["acme"].outcome == "mended"
    assert {(one.object, one.field) for one in mended["acme"].differences} == {
        ("Namespace/tenant-acme", "metadata.labels.pod-security.kubernetes.io/enforce"),
        ("NetworkPolicy/deny-all", ""),
        ("NetworkPolicy/open", ""),
        ("ResourceQuota/tenant", "spec.hard.count/secrets"),
        ("ResourceQuota/tenant", "spec.hard.pods"),
    }
    assert by_slug(reconcile(cluster, DECLARED, [ACME, GLOBEX]))["acme"].outcome == "in order"
    policies = plane.succeed("kubectl", "get", "networkpolicy", "--namespace", "tenant-acme", "--output", "name")
    assert policies.split() == [f"networkpolicy.networking.k8s.io/{name}" for name in ("deny-all", "tenant")]
    labels = plane.object("namespace", "tenant-acme", "")["metadata"]["labels"]
    assert (labels["team"], labels["pod-security.kubernetes.io/enforce"]) == ("blue", "restricted")


def test_the_namespace_of_a_closed_tenant_goes_and_no_other(plane: ControlPlane, cluster: Cluster) -> None:
    reconcile(cluster, DECLARED, [ACME, GLOBEX])
    plane.succeed("kubectl", "create", "namespace", "tenant-of-somebody")
    states = by_slug(reconcile(cluster, DECLARED, [ACME]))
    assert states["globex"].outcome == "removed"
    assert "of-somebody" not in states
    assert plane.object("namespace", "tenant-globex", "")["metadata"].get("deletionTimestamp")
    assert plane.object("namespace", "tenant-of-somebody", "")["status"]["phase"] == "Active"
    # No controller finishes the removal here, so its tenant, back again, has to wait and says so.
    waiting = by_slug(reconcile(cluster, DECLARED, [ACME, GLOBEX]))["globex"]
    assert (waiting.outcome, waiting.is_in_order) == ("failed", False)
    assert "is being removed" in waiting.error


def test_a_namespace_of_somebody_else_is_left_alone(plane: ControlPlane, cluster: Cluster) -> None:
    plane.succeed("kubectl", "create", "namespace", "tenant-taken")
    taken, fresh = ClusterTenant(UUID(int=3), "taken"), ClusterTenant(UUID(int=4), "fresh")
    states = by_slug(reconcile(cluster, DECLARED, [ACME, taken, fresh]))
    assert states["taken"].outcome == "failed"
    assert "not ours" in states["taken"].error
    assert states["fresh"].outcome == "mended"  # one tenant's trouble stops nobody else
    assert "app.kubernetes.io/part-of" not in plane.object("namespace", "tenant-taken", "")["metadata"].get(
        "labels", {}
    )


def test_a_quota_below_what_runs_is_told_and_ends_nothing(plane: ControlPlane, cluster: Cluster) -> None:
    reconcile(cluster, DECLARED, [ACME])
    status = {"status": {"hard": {"pods": "10"}, "used": {"pods": "8", "requests.memory": "9000Mi"}}}
    quota = plane.object("resourcequota", "tenant", "tenant-acme") | status
    path = "/api/v1/namespaces/tenant-acme/resourcequotas/tenant/status"
    plane.succeed("kubectl", "replace", "--raw", path, "--filename", "-", text=json.dumps(quota))
    less = DeclaredCluster.model_validate(DECLARED.model_dump() | {"tenant": {"pods": 5, "memory_gib": 9}})
    (state, *_) = reconcile(cluster, less, [ACME])
    assert state.over_quota == ("pods: 8 used, 5 allowed",)
    assert not state.is_in_order


def test_a_cluster_that_is_away_or_unknown_says_so(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("away") / "kubeconfig"
    server = plane.kubeconfig.read_text().split("server: ")[1].split()[0]
    elsewhere.write_text(plane.kubeconfig.read_text().replace(server, f"https://127.0.0.1:{free_port()}"))
    monkeypatch.setenv("KUBECONFIG", str(elsewhere))
    with (
        closing(Cluster.from_environment()) as cluster,
        pytest.raises(ClusterAway, match="could not be asked to list Namespace"),
    ):
        reconcile(cluster, DECLARED, [ACME])
    monkeypatch.setenv("KUBECONFIG", str(elsewhere.with_name("nothing")))
    with pytest.raises(ClusterUnknown, match="Set KUBECONFIG"):
        Cluster.from_environment()


def engine(plane: ControlPlane, namespace: str, variant: str, driver: str = "studio", suffix: str = "") -> str:
    """A Deployment as the engine chart makes it; its name."""
    if plane.run("kubectl", "get", "namespace", namespace).returncode != 0:
        plane.succeed("kubectl", "create", "namespace", namespace)
    values = merged(ENGINE, {"minKubeVersion": "0.0.0", "driver": driver, "model": {"variant": variant}})
    deployment = only(template("engine", values, namespace=namespace), "Deployment")
    deployment["metadata"]["name"] += suffix
    plane.succeed("kubectl", "create", "--validate=false", "--filename", "-", text=json.dumps(deployment))
    return str(deployment["metadata"]["name"])


def pods_of(plane: ControlPlane, name: str, namespace: str) -> int:
    return int(plane.object("deployment", name, namespace)["spec"]["replicas"])


def by_variant(states: list[ScaleState]) -> dict[str, ScaleState]:
    return {state.variant: state for state in states}


def test_deployments_of_ours_follow_the_fleet_and_no_others(plane: ControlPlane, cluster: Cluster) -> None:
    ours = engine(plane, "driven", "qwen3-32b-base")
    others = engine(plane, "driven", "qwen3-32b-fast", driver="none")
    before = pods_of(plane, others, "driven")
    (state,) = drive(cluster, "driven", {"qwen3-32b-base": 3, "qwen3-32b-fast": 7})
    assert (state.outcome, state.pods, state.said) == ("scaled", 3, "1 -> 3")
    assert (pods_of(plane, ours, "driven"), pods_of(plane, others, "driven")) == (3, before)
    assert [state.outcome for state in drive(cluster, "driven", {"qwen3-32b-base": 3})] == ["starting"]
    (closed,) = drive(cluster, "driven", {"qwen3-32b-base": 0})
    assert (closed.outcome, pods_of(plane, ours, "driven")) == ("scaled", 0)
    assert [state.outcome for state in drive(cluster, "driven", {"qwen3-32b-base": 0})] == ["in order"]
    (unknown,) = drive(cluster, "driven", {})
    assert (unknown.outcome, pods_of(plane, ours, "driven")) == ("conflict", 0)


def test_two_drivers_of_one_deployment_are_told_and_nothing_is_written(plane: ControlPlane, cluster: Cluster) -> None:
    name = engine(plane, "fought", "qwen3-32b-base")
    autoscaler = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "fought"},
        "spec": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        },
    }
    plane.succeed("kubectl", "create", "--validate=false", "--filename", "-", text=json.dumps(autoscaler))
    for _ in range(2):
        (state,) = drive(cluster, "fought", {"qwen3-32b-base": 3})
        assert (state.outcome, state.is_in_order) == ("conflict", False)
        assert f"HorizontalPodAutoscaler/{name} scales it, too" in state.said
    assert pods_of(plane, name, "fought") == 1
    plane.succeed("kubectl", "delete", "horizontalpodautoscaler", name, "--namespace", "fought")
    assert [state.outcome for state in drive(cluster, "fought", {"qwen3-32b-base": 3})] == ["scaled"]


def test_two_releases_of_one_variant_are_a_conflict(plane: ControlPlane, cluster: Cluster) -> None:
    names = [engine(plane, "twice", "qwen3-32b-base", suffix=suffix) for suffix in ("-a", "-b")]
    states = drive(cluster, "twice", {"qwen3-32b-base": 2})
    assert [state.outcome for state in states] == ["conflict", "conflict"]
    assert [pods_of(plane, name, "twice") for name in names] == [1, 1]


def test_pods_that_cannot_start_are_a_state_of_their_own_that_does_not_flap(
    plane: ControlPlane, cluster: Cluster
) -> None:
    name = engine(plane, "stuck", "qwen3-32b-base")
    selector = plane.object("deployment", name, "stuck")["spec"]["selector"]["matchLabels"]
    container = {"name": "engine", "image": f"registry.example/vllm@{DIGEST}"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "stuck", "labels": selector}}
    plane.succeed(
        *("kubectl", "create", "--validate=false", "--filename", "-"),
        text=json.dumps(pod | {"spec": {"containers": [container]}}),
    )

    def state(**container_state: Any) -> tuple[str, str]:
        """What the driver says of it when the kubelet says this."""
        seen = {"name": "engine", "image": "i", "imageID": "", "ready": False, "restartCount": 0} | container_state
        scheduled = container_state.get("conditions", [])
        status = {"phase": "Pending", "containerStatuses": [seen], "conditions": scheduled}
        status = {"phase": "Pending", "conditions": scheduled} if scheduled else status
        stored = plane.object("pod", "p", "stuck") | {"status": status}
        path = "/api/v1/namespaces/stuck/pods/p/status"
        plane.succeed("kubectl", "replace", "--raw", path, "--filename", "-", text=json.dumps(stored))
        (found,) = drive(cluster, "stuck", {"qwen3-32b-base": 1})
        return found.outcome, found.said

    assert state(state={"waiting": {"reason": "ContainerCreating"}}) == ("starting", "0 of 1 ready")
    # An image that cannot be pulled: two words of the kubelet's for one state.
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        said = {"waiting": {"reason": reason, "message": "manifest unknown"}}
        assert state(state=said) == ("stuck", f"engine: {reason}: manifest unknown")
    # Weights with another checksum: the init container's own sentence, while it waits and while it runs again.
    ended = {"terminated": {"exitCode": 1, "message": "qwen3-32b: model.safetensors has not the manifest's SHA-256"}}
    waits: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    runs: dict[str, Any] = {"running": {}}
    for present in (waits, runs):
        outcome, sentence = state(state=present, lastState=ended, restartCount=4)
        assert outcome == "stuck"
        assert "has not the manifest's SHA-256" in sentence
    # A card that was lost: the next pod finds none.
    lost = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient gpu"}
    assert state(conditions=[lost]) == ("stuck", "Unschedulable: Insufficient gpu")


def test_while_the_api_server_is_away_nothing_is_done_and_the_first_tick_after_it_catches_up(
    plane: ControlPlane, worker: Engine, catalog: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(REPOSITORY / "catalog", folder)
    with (folder / "sites/local.yaml").open("a") as file:
        file.write(CLUSTER_OF_THE_SITE.replace("dagster-engines", "away-engines"))
    name = engine(plane, "away-engines", "smollm2-135m-instruct")
    config = plane.kubeconfig.read_text()
    port = config.split("https://127.0.0.1:")[1].split()[0]
    wire = Wire(int(port))
    (tmp_path / "kubeconfig").write_text(config.replace(f"127.0.0.1:{port}", f"127.0.0.1:{wire.port}"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with unit_of_work(worker) as session:
        row = {"variant_id": "smollm2-135m-instruct", "replicas": 3, "reason": "open"}
        session.execute(insert(DesiredReplicas).values(decided_at=datetime.now(UTC), **row))
    with dg.DagsterInstance.ephemeral() as instance:
        location = Location({"worker_database": worker, "cluster_site": ClusterSite(folder, "local")}, instance)
        wire.cut()
        for sensor in ("cluster_scale", "tenants_drifted"):
            with location.tick(sensor) as said:
                assert "could not be asked" in str(said.skip_message)
        assert pods_of(plane, name, "away-engines") == 1
        wire.mend()
        with location.tick("cluster_scale") as said:
            assert len(said.asset_events) == 3
        assert pods_of(plane, name, "away-engines") == 3
    wire.close()


def test_a_deployment_that_was_changed_meanwhile_is_not_overwritten(plane: ControlPlane, cluster: Cluster) -> None:
    name = engine(plane, "changed", "qwen3-32b-base")
    seen = plane.object("deployment", name, "changed")["metadata"]["resourceVersion"]
    plane.succeed("kubectl", "scale", "deployment", name, "--namespace", "changed", "--replicas=2")
    with pytest.raises(ClusterConflict, match="could not scale"):
        cluster.scale(name, "changed", 5, seen)
    assert pods_of(plane, name, "changed") == 2


CLUSTER_OF_THE_SITE = """
cluster:
  engines: dagster-engines
  gateway: {namespace: studio, port: 8080}
  s3: {namespace: studio, port: 8333}
"""


def test_dagster_brings_tenants_and_pods_to_what_is_declared(
    plane: ControlPlane, cluster: Cluster, worker: Engine, operator: Engine, catalog: None, tmp_path: Path
) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(REPOSITORY / "catalog", folder)
    without = ClusterSite(folder, "local")
    with dg.DagsterInstance.ephemeral() as instance:
        location = Location({"worker_database": worker, "cluster_site": without}, instance)
        for sensor in ("tenants_drifted", "cluster_scale"):
            with location.tick(sensor) as said:
                assert said.skip_message == "This site declares no cluster."
        with (folder / "sites/local.yaml").open("a") as file:
            file.write(CLUSTER_OF_THE_SITE)
        new_tenant(operator, "initech")

        (request,) = location.asks("tenants_drifted")
        assert location.carry_out(request, "apply_tenants").success
        assert location.asks("tenants_drifted") == []
        plane.object("networkpolicy", "deny-all", "tenant-initech")
        latest = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("tenant_namespaces"), "tenants_have_their_namespaces"), limit=1
        )
        assert [execution.status.value for execution in latest] == ["SUCCEEDED"]

        name = engine(plane, "dagster-engines", "smollm2-135m-instruct")
        with unit_of_work(worker) as session:
            row = {"variant_id": "smollm2-135m-instruct", "replicas": 2, "reason": "open"}
            session.execute(insert(DesiredReplicas).values(decided_at=datetime.now(UTC), **row))
        with location.tick("cluster_scale") as said:
            assert [type(event).__name__ for event in said.asset_events] == [
                "AssetMaterialization",
                "AssetCheckEvaluation",
                "AssetCheckEvaluation",
            ]
        assert pods_of(plane, name, "dagster-engines") == 2


def test_jobs_of_runs_that_are_over_are_found_and_removed(plane: ControlPlane, cluster: Cluster) -> None:
    plane.succeed("kubectl", "create", "namespace", "runs")
    for run, active in (("over", 1), ("alive", 1), ("ended", 0)):
        container = {"name": "run", "image": f"registry.example/dagster@{DIGEST}"}
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"dagster-run-{run}", "namespace": "runs", "labels": {RUN_LABEL: run}},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
        }
        plane.succeed("kubectl", "create", "--validate=false", "--filename", "-", text=json.dumps(job))
        stored = plane.object("job", f"dagster-run-{run}", "runs") | {"status": {"active": active} if active else {}}
        path = f"/apis/batch/v1/namespaces/runs/jobs/dagster-run-{run}/status"
        plane.succeed("kubectl", "replace", "--raw", path, "--filename", "-", text=json.dumps(stored))
    (found,) = orphaned(cluster, "runs", lambda run_id: run_id != "alive")
    assert (found.job, found.run_id) == ("dagster-run-over", "over")
    cluster.delete("Job", found.job, "runs")
    cluster.delete("Job", found.job, "runs")  # somebody was faster
    assert orphaned(cluster, "runs", lambda run_id: run_id != "alive") == []


def test_an_operator_does_the_same_by_hand(
    plane: ControlPlane, database: TestDatabase, operator: Engine, catalog: None, tmp_path: Path
) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(REPOSITORY / "catalog", folder)
    customer = new_tenant(operator, "umbrella")
    with unit_of_work(operator) as session:
        key = create_key(session, customer, "admin", "tests", scopes=["admin"]).text

    def studio(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"STUDIO_GATEWAY_URL": url, "STUDIO_API_KEY": key, "KUBECONFIG": str(plane.kubeconfig)}
        return subprocess.run(
            [str(REPOSITORY / "bin" / "studio"), "tenant", "apply", *arguments],
            env={**os.environ, **environment, "STUDIO_CATALOG_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    with GatewayProcess(database, tmp_path) as gateway:
        refused = studio(gateway.url)
        assert (refused.returncode, refused.stderr) == (
            1,
            "The site 'local' declares no cluster: catalog/sites/local.yaml.\n",
        )
        with (folder / "sites/local.yaml").open("a") as file:
            file.write(CLUSTER_OF_THE_SITE)
        seen = studio(gateway.url, "--dry-run", "--json")
        assert seen.returncode == 1
        (row,) = [row for row in json.loads(seen.stdout) if row["tenant"] == "umbrella"]
        assert (row["outcome"], "NetworkPolicy/deny-all" in row["differences"]) == ("drifted", True)
        applied = studio(gateway.url)
        assert "tenant-umbrella" in applied.stdout
        assert "mended" in applied.stdout
    plane.object("resourcequota", "tenant", "tenant-umbrella")
