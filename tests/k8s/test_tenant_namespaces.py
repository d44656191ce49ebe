"""Tenants' namespaces on a real Kubernetes API server: made, kept, mended and removed, by Dagster and by hand.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import Engine, insert, select

from assets.cluster import ClusterSite
from studio.catalog.declaration import DeclaredCluster
from studio.cluster.connection import Cluster, ClusterAway, ClusterUnknown
from studio.cluster.tenant_objects import ClusterTenant
from studio.cluster.tenants import TenantState, reconcile
from studio.db.fleet import DesiredReplicas, EnginePods, EngineStart
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.k8s.control_plane import ControlPlane
from tests.k8s.site_cluster import CLUSTER_OF_THE_SITE, engine, pods_of
from tests.orchestration.location import Location
from tests.server import TestDatabase, free_port
from tests.serving.gateway_process import GatewayProcess

DECLARED = DeclaredCluster.model_validate(
    {"gateway": {"namespace": "studio", "port": 8080}, "s3": {"namespace": "studio", "port": 8333}}
)
ACME, GLOBEX = ClusterTenant(UUID(int=1), "acme"), ClusterTenant(UUID(int=2), "globex")


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
                "AssetCheckEvaluation",
            ]
        assert pods_of(plane, name, "dagster-engines") == 2

        # They become ready: a start that the fleet has measured, once.
        stored = plane.object("deployment", name, "dagster-engines") | {"status": {"replicas": 2, "readyReplicas": 2}}
        path = f"/apis/apps/v1/namespaces/dagster-engines/deployments/{name}/status"
        plane.succeed("kubectl", "replace", "--raw", path, "--filename", "-", text=json.dumps(stored))
        for _ in range(2):
            with location.tick("cluster_scale"):
                pass
        with unit_of_work(worker) as session:
            (start,) = session.scalars(select(EngineStart)).all()
            assert start.variant_id == "smollm2-135m-instruct"
            assert start.started_at < start.ready_at
            assert session.scalars(select(EnginePods.outcome)).all() == ["in order"]


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
