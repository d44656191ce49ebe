"""Our driver and our tenants on a control plane whose controllers and scheduler run, with two nodes of eight cards.

Needs kube-controller-manager and kube-scheduler beside the API server (docs/kubernetes.md); not run without them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from studio.catalog.declaration import DeclaredCluster
from studio.cluster.connection import Cluster
from studio.cluster.health import Before
from studio.cluster.scaling import ScaleState, drive
from studio.cluster.tenant_objects import ClusterTenant
from studio.cluster.tenants import reconcile
from tests.k8s.control_plane import ControlPlane, controlled, controllers, running
from tests.k8s.fake_nodes import CARD, CARDS, FakeNodes
from tests.k8s.rendering import DIGEST, ENGINE, merged, only, template
from tests.local.eventually import eventually

VARIANT = "qwen3-32b-base"
SECONDS = 60.0  # within which controllers do what they do within one


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNodes]:
    binaries = controllers()
    with (
        running(binaries, tmp_path_factory.mktemp("control-plane")) as plane,
        controlled(binaries, plane),
        FakeNodes(plane) as nodes,
    ):
        yield nodes


@pytest.fixture
def cluster(nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(nodes.plane.kubeconfig))
    with closing(Cluster.from_environment()) as cluster:
        yield cluster


class Release:
    """An engine of the chart in a namespace of its own, and our driver, which remembers."""

    def __init__(self, plane: ControlPlane, cluster: Cluster, namespace: str, cards: int) -> None:
        self._plane, self._cluster, self.namespace = plane, cluster, namespace
        self._seen: list[ScaleState] = []
        values = {"minKubeVersion": "0.0.0", "driver": "studio", "model": {"variant": VARIANT}}
        sized = {"engine": {"tensorParallel": cards}}
        deployment = only(template("engine", merged(ENGINE, values, sized), namespace=namespace), "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        # No controller makes volumes here, and a pod whose claim is not bound is never placed.
        pod["volumes"] = [{"name": volume["name"], "emptyDir": {}} for volume in pod["volumes"]]
        deployment["spec"]["replicas"] = 0
        self.name = str(deployment["metadata"]["name"])
        plane.succeed("kubectl", "create", "namespace", namespace)
        plane.succeed("kubectl", "create", "--validate=false", "--filename", "-", text=json.dumps(deployment))

    def tick(self, desired: int, after: float = 0) -> ScaleState:
        """One of the driver's, so many seconds later than now."""
        before = {
            one.variant: Before(
                one.health.trouble.kind if one.health.trouble else None,
                one.health.trouble_since,
                one.health.unready_since,
            )
            for one in self._seen
        }
        now = datetime.now(UTC) + timedelta(seconds=after)
        self._seen = drive(self._cluster, self.namespace, {VARIANT: desired}, before, now)
        (state,) = self._seen
        return state

    def becomes(self, outcome: str, desired: int, ready: int) -> list[str]:
        """The outcomes on the way there."""
        seen: list[str] = []

        def is_there() -> bool:
            state = self.tick(desired)
            seen.append(state.outcome)
            return (state.outcome, state.ready) == (outcome, ready)

        eventually(is_there, f"{outcome} with {ready} of {desired}", SECONDS)
        return seen

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._plane.ask("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return found

    def end(self) -> None:
        """Give the cards back to the next test."""
        self._plane.ask("DELETE", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}")
        eventually(lambda: not self.pods(), "the pods have gone", SECONDS)


def test_the_cards_are_enough_for_eight_of_ten_pods_and_the_driver_says_so(nodes: FakeNodes, cluster: Cluster) -> None:
    release = Release(nodes.plane, cluster, "placed", cards=2)
    assert "stuck" not in release.becomes("starting", desired=10, ready=2 * CARDS // 2)
    placed = [pod["spec"].get("nodeName") for pod in release.pods()]
    assert sorted(placed, key=str) == [None] * 2 + ["node-1"] * 4 + ["node-2"] * 4
    assert release.tick(10).outcome == "starting"
    stuck = release.tick(10, after=90)
    assert (stuck.outcome, f"Insufficient {CARD}" in stuck.said) == ("stuck", True)
    release.becomes("in order", desired=8, ready=8)
    release.end()


def test_a_roll_on_full_cards_waits_for_the_old_pod_and_is_never_stuck(nodes: FakeNodes, cluster: Cluster) -> None:
    release = Release(nodes.plane, cluster, "rolled", cards=CARDS)
    release.becomes("in order", desired=2, ready=2)
    nodes.lingering.add("rolled")
    template = {"metadata": {"annotations": {"changed": "yes"}}}
    path = f"/apis/apps/v1/namespaces/rolled/deployments/{release.name}"
    nodes.plane.ask("PATCH", path, {"spec": {"template": template}}, "application/merge-patch+json")
    eventually(lambda: "Unschedulable" in release.tick(2).said, "the new pod finds no cards", SECONDS)
    for seconds in (0, 70, 140):  # the chart's grace is longer
        state = release.tick(2, after=seconds)
        assert state.outcome == "starting"
        assert "waits for what a pod that ends still holds" in state.said
    # On a node that is lost it never ends: that is told.
    assert [release.tick(2, after=seconds).outcome for seconds in (3600, 3661)] == ["starting", "stuck"]
    release.tick(2)
    nodes.lingering.clear()
    assert "stuck" not in release.becomes("in order", desired=2, ready=2)
    release.end()


def test_pods_that_a_quota_refuses_are_a_state_with_kubernetes_words_and_heal(
    nodes: FakeNodes, cluster: Cluster
) -> None:
    release = Release(nodes.plane, cluster, "quota", cards=2)
    quota = ("quota", "cards", "--namespace", "quota")
    nodes.plane.succeed("kubectl", "create", *quota, f"--hard=requests.{CARD}=0")
    eventually(
        lambda: "status" in nodes.plane.object("resourcequota", "cards", "quota"), "the quota is in force", SECONDS
    )
    eventually(lambda: "exceeded quota" in release.tick(1).said, "the refusal is seen", SECONDS)
    stuck = release.tick(1, after=90)
    assert (stuck.outcome, stuck.health.trouble and stuck.health.trouble.kind) == ("stuck", "quota")
    assert release.pods() == []
    nodes.plane.succeed("kubectl", "delete", *quota)
    release.becomes("in order", desired=1, ready=1)
    release.end()


def test_a_closed_tenants_namespace_ends_with_what_runs_in_it_and_may_come_back(
    nodes: FakeNodes, cluster: Cluster
) -> None:
    declared = DeclaredCluster.model_validate(
        {"gateway": {"namespace": "studio", "port": 8080}, "s3": {"namespace": "studio", "port": 8333}}
    )
    acme = ClusterTenant(UUID(int=1), "acme")
    assert [state.outcome for state in reconcile(cluster, declared, [acme])] == ["mended"]
    limits = nodes.plane.succeed("kubectl", "run", "p", "--image=i", "--namespace=tenant-acme", "--output=json")
    assert json.loads(limits)["spec"]["containers"][0]["resources"]["limits"]["memory"]  # the LimitRange's default
    eventually(
        lambda: nodes.plane.object("resourcequota", "tenant", "tenant-acme")["status"]["used"]["pods"] == "1",
        "the quota counts the pod",
        SECONDS,
    )
    assert [state.outcome for state in reconcile(cluster, declared, [])] == ["removed"]
    eventually(lambda: reconcile(cluster, declared, []) == [], "the namespace is gone", SECONDS)
    assert [state.outcome for state in reconcile(cluster, declared, [acme])] == ["mended"]


def test_a_job_ends_at_its_deadline(nodes: FakeNodes) -> None:
    plane = nodes.plane
    plane.succeed("kubectl", "create", "namespace", "jobs")
    pod = {"restartPolicy": "Never", "containers": [{"name": "train", "image": f"registry.example/trainer@{DIGEST}"}]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "fine-tune", "namespace": "jobs"},
        "spec": {"activeDeadlineSeconds": 1, "backoffLimit": 0, "template": {"spec": pod}},
    }
    plane.ask("POST", "/apis/batch/v1/namespaces/jobs/jobs", job)

    def conditions() -> list[tuple[str, str]]:
        status = plane.ask("GET", "/apis/batch/v1/namespaces/jobs/jobs/fine-tune")["status"]
        return [(one["type"], one["reason"]) for one in status.get("conditions", [])]

    eventually(lambda: conditions() == [("Failed", "DeadlineExceeded")], "the deadline ends it", SECONDS)
    eventually(lambda: plane.ask("GET", "/api/v1/namespaces/jobs/pods")["items"] == [], "its pod goes with it", SECONDS)
