"""The acceptance script on a real API server with nodes made of nothing: it sees what is wrong, and says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from k8s.acceptance import machines, service
from k8s.acceptance.__main__ import DAYS
from k8s.acceptance.site import Check, NotAsItShouldBe, Site, verdict
from studio.settings import REPOSITORY
from tests.k8s.control_plane import ControlPlane, assets, running
from tests.k8s.rendering import DIGEST, ENGINE, TOOLS, merged, only, template
from tests.k8s.scaled_objects import scaled_object
from tests.k8s.test_charts import assert_restricted


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running(assets(), tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture
def site(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    return Site(kubectl=str(TOOLS / "kubectl"))


def said(check: Check, site: Site) -> tuple[str, str]:
    one = verdict("1-2", check, site)
    return one.outcome, one.said


def make(plane: ControlPlane, *documents: dict[str, Any]) -> None:
    for document in documents:
        plane.succeed("kubectl", "create", "--validate=false", "--filename", "-", text=json.dumps(document))


def has_status(plane: ControlPlane, path: str, status: dict[str, Any]) -> None:
    stored = json.loads(plane.succeed("kubectl", "get", "--raw", path)) | {"status": status}
    plane.succeed("kubectl", "replace", "--raw", f"{path}/status", "--filename", "-", text=json.dumps(stored))


NODE_INFO = {
    "kubeletVersion": "v1.31.4",
    "containerRuntimeVersion": "containerd://2.0.1",
    **dict.fromkeys(
        ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "kubeProxyVersion", "operatingSystem"), ""
    ),
    "architecture": "amd64",
}


def test_nodes_and_cards_are_judged_with_a_way_out(plane: ControlPlane, site: Site) -> None:
    assert said(machines.nodes_are_ready, site) == (
        "FAILED",
        "there are 0 nodes, and the plan has two: kubeadm join",
    )
    ready = [{"type": "Ready", "status": "True"}]
    for name in ("node-1", "node-2"):
        labels = {"metax-tech.com/gpu.installed": "true"}
        make(plane, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    made = {"conditions": ready, "nodeInfo": NODE_INFO}
    has_status(plane, "/api/v1/nodes/node-1", made | {"allocatable": {"metax-tech.com/gpu": "8"}})
    assert "node-2 is not ready" in said(machines.nodes_are_ready, site)[1]
    has_status(plane, "/api/v1/nodes/node-2", made | {"nodeInfo": NODE_INFO | {"kubeletVersion": "v1.29.9"}})
    assert "node-2: its kubelet is v1.29.9" in said(machines.nodes_are_ready, site)[1]
    docker = NODE_INFO | {"containerRuntimeVersion": "docker://27.1"}
    has_status(plane, "/api/v1/nodes/node-2", made | {"nodeInfo": docker})
    assert "node-2 runs docker://27.1" in said(machines.nodes_are_ready, site)[1]
    has_status(plane, "/api/v1/nodes/node-2", made)
    plane.succeed("kubectl", "taint", "nodes", "node-1", "node.kubernetes.io/not-ready-")
    assert said(machines.nodes_are_ready, site) == ("passed", "node-1, node-2")
    assert "node-2 offers no metax-tech.com/gpu" in said(machines.cards_are_offered, site)[1]
    has_status(plane, "/api/v1/nodes/node-2", made | {"allocatable": {"metax-tech.com/gpu": "8"}})
    assert said(machines.cards_are_offered, site) == ("passed", "node-1: 8, node-2: 8")
    taint = "node-role.kubernetes.io/control-plane=:NoSchedule"
    plane.succeed("kubectl", "taint", "nodes", "node-1", taint)
    outcome, sentence = said(machines.cards_are_offered, site)
    assert (outcome, "do not tolerate that: untaint it" in sentence) == ("FAILED", True)
    assert said(machines.a_node_is_for_training, site)[0] == "FAILED"
    plane.succeed("kubectl", "label", "node", "node-2", "studio.xpulink.ai/role=training")
    assert said(machines.a_node_is_for_training, site) == ("passed", "node-2")


def test_workloads_claims_and_namespaces_are_judged(plane: ControlPlane, site: Site) -> None:
    assert said(machines.the_platform_is_ready, site)[0] == "FAILED"
    for name in ("studio", "engines"):
        make(plane, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert "does not enforce" in said(machines.namespaces_refuse_privileged_pods, site)[1]
    for name in ("studio", "engines"):
        plane.succeed("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    assert said(machines.namespaces_refuse_privileged_pods, site)[0] == "passed"
    labels = {"app": "gateway"}
    container = {"name": "gateway", "image": f"registry.example/gateway@{DIGEST}"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    make(
        plane,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "gateway", "namespace": "studio"},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        },
    )
    path = "/apis/apps/v1/namespaces/studio/deployments/gateway"
    has_status(plane, path, {"readyReplicas": 1, "replicas": 2})
    assert "Deployment studio/gateway: 1 of 2 ready" in said(machines.the_platform_is_ready, site)[1]
    has_status(plane, path, {"readyReplicas": 2, "replicas": 2})
    assert said(machines.the_platform_is_ready, site) == ("passed", "1 workloads")
    make(
        plane,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", "namespace": "engines"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    assert "engines/models is Pending" in said(machines.claims_are_bound, site)[1]


def test_tenants_and_training_are_judged(plane: ControlPlane, site: Site) -> None:
    assert "bin/studio tenant apply" in said(service.tenants_are_fenced, site)[1]
    labels = {"studio.xpulink.ai/tenant": "acme"}
    make(plane, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-acme", "labels": labels}})
    assert said(service.tenants_are_fenced, site)[1] == (
        "tenant-acme has no resourcequota tenant: bin/studio tenant apply"
    )
    assert said(service.fine_tunes_have_their_place, site)[0] == "FAILED"
    assert "no engine runs" in said(service.each_deployment_has_one_driver, site)[1]
    assert said(service.a_tenants_pod_reaches_s3_and_not_the_database, site)[0] == "not looked at"
    pod = service._probe("probe", "tenant-acme", f"registry.example/gateway@{DIGEST}", {"s3": ("localhost", 1)})
    assert_restricted(pod["spec"] | {"volumes": []} | {"containers": [_pulled(pod)]})
    make(plane, pod)
    ran = subprocess.run(
        [sys.executable, "-c", pod["spec"]["containers"][0]["command"][2]], capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == {"s3": False}


def test_daemon_sets_and_backups_are_judged_by_what_they_have_done(plane: ControlPlane, site: Site) -> None:
    assert "there is no DaemonSet" in said(machines.every_daemon_set_runs_everywhere, site)[1]
    plane.succeed("kubectl", "create", "namespace", "watched")
    labels = {"app": "calico"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": f"c@{DIGEST}"}]}}
    network = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "calico", "namespace": "watched"},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }
    make(plane, network)
    path = "/apis/apps/v1/namespaces/watched/daemonsets/calico"
    counts = {"currentNumberScheduled": 2, "numberMisscheduled": 0, "desiredNumberScheduled": 2}
    has_status(plane, path, counts | {"numberReady": 1})
    assert said(machines.every_daemon_set_runs_everywhere, site)[1] == "DaemonSet watched/calico: 1 of 2 ready"
    has_status(plane, path, counts | {"numberReady": 2})
    assert said(machines.every_daemon_set_runs_everywhere, site) == ("passed", "1 DaemonSets")

    watched = replace(site, platform="watched")
    assert "there is no CronJob `backup`" in said(service.a_backup_was_made_and_one_restored, watched)[1]


def test_a_backup_counts_by_when_its_last_job_succeeded() -> None:
    """On documents: the server of our CI is older than the field."""
    now = datetime(2026, 12, 1, 9, tzinfo=UTC)

    def judged(last: str | None) -> str:
        job = {"metadata": {"name": "studio-backup"}, "status": {"lastSuccessfulTime": last} if last else {}}
        try:
            service._has_succeeded([job], "backup", timedelta(hours=36), now)
        except NotAsItShouldBe as why:
            return str(why)
        return "good"

    assert judged("2026-12-01T02:10:00Z") == "good"
    assert judged("2026-11-29T02:10:00Z").startswith("the last good backup was 2026-11-29")
    assert judged(None).startswith("the last good backup was never")


def test_two_drivers_and_a_driver_that_is_missing_are_found(plane: ControlPlane, site: Site) -> None:
    plane.succeed("kubectl", "create", "namespace", "driven")
    driven, check = replace(site, engines="driven"), service.each_deployment_has_one_driver
    values = merged(ENGINE, {"minKubeVersion": "0.0.0", "driver": "studio"})
    deployment = only(template("engine", values, namespace="driven"), "Deployment")
    name = deployment["metadata"]["name"]
    make(plane, deployment)
    assert said(check, driven) == ("passed", "1 Deployments")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    autoscaler = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": name, "namespace": "driven"}}
    make(plane, {"apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 3, "scaleTargetRef": target}} | autoscaler)
    assert said(check, driven)[1] == f"{name} has the driver studio, and an autoscaler scales it, too"
    plane.succeed("kubectl", "delete", "hpa", name, "--namespace", "driven")
    label = f"{service._DRIVER}=keda"
    plane.succeed("kubectl", "label", "deployment", name, label, "--overwrite", "--namespace", "driven")
    assert said(check, driven)[1] == f"{name} has the driver keda, and no ScaledObject names it"
    with scaled_object(plane, name, "driven"):
        assert said(check, driven) == ("passed", "1 Deployments")
        label = f"{service._DRIVER}=studio"
        plane.succeed("kubectl", "label", "deployment", name, label, "--overwrite", "--namespace", "driven")
        assert said(check, driven)[1] == f"{name} has the driver studio, and a ScaledObject scales it, too"


def _pulled(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return {**container, "imagePullPolicy": "IfNotPresent"}


def test_the_command_names_what_failed_and_what_was_not_looked_at(plane: ControlPlane, tmp_path: Path) -> None:
    # HOME: kubectl keeps what it has found out there, and without one beside the code.
    environment = {"KUBECONFIG": str(plane.kubeconfig), "PATH": str(TOOLS), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "k8s.acceptance", "--day", "6", "--day", "7"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(DAYS["6"]) + len(DAYS["7"]) + 1
    assert lines[0].startswith("day 6    FAILED         fine tunes have their place: ")
    assert "not looked at  a month can be billed: give STUDIO_GATEWAY_URL and STUDIO_API_KEY" in done.stdout
    assert lines[-1] == "2 failed, 2 not looked at."
