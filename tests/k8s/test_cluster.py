"""What we write into a cluster, on a real Kubernetes API server: tenants' namespaces, and the pods of engines.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from sqlalchemy import Engine, delete, insert, select, update

from assets.cluster import ClusterSite
from studio.catalog.declaration import DeclaredCluster
from studio.cluster import connection
from studio.cluster.connection import Cluster, ClusterAway, ClusterConflict, ClusterUnknown
from studio.cluster.health import Before
from studio.cluster.run_jobs import RUN_LABEL
from studio.cluster.scaling import ScaleState, drive
from studio.cluster.tenant_objects import ClusterTenant
from studio.cluster.tenants import TenantState, reconcile
from studio.db.fleet import ClusterContact, DesiredReplicas, EnginePods, EngineStart
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.k8s.control_plane import ControlPlane, GivenCluster, assets, running
from tests.k8s.front import Front, Mood
from tests.k8s.rendering import DIGEST, ENGINE, merged, only, template
from tests.k8s.scaled_objects import scaled_object
from tests.k8s.wire import Wire
from tests.orchestration.location import Location
from tests.server import TestDatabase, free_port
from tests.serving.gateway_process import GatewayProcess

DECLARED = DeclaredCluster.model_validate(
    {"gateway": {"namespace": "studio", "port": 8080}, "s3": {"namespace": "studio", "port": 8333}}
)
NOW = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)
ACME, GLOBEX = ClusterTenant(UUID(int=1), "acme"), ClusterTenant(UUID(int=2), "globex")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running(assets(), tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="module")
def given(request: pytest.FixtureRequest) -> ControlPlane:
    """The cluster of whoever runs the tests, if they say so; ours otherwise. Only by a kubeconfig, in both cases."""
    return GivenCluster.named() or GivenCluster(request.getfixturevalue("plane").kubeconfig)


@pytest.fixture
def namespace(given: ControlPlane) -> Iterator[str]:
    """Of this test alone."""
    name = f"studio-test-{secrets.token_hex(4)}"
    given.succeed("kubectl", "create", "namespace", name)
    yield name
    given.succeed("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.fixture
def cluster(given: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(given.kubeconfig))
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


def kind_of(state: ScaleState) -> str | None:
    return state.health.trouble.kind if state.health.trouble is not None else None


def tick(
    cluster: Cluster, namespace: str, desired: Mapping[str, int], seen: Sequence[ScaleState] = (), now: datetime = NOW
) -> list[ScaleState]:
    """A tick of the driver, which remembers what the tick before has `seen`."""
    before = {one.variant: Before(kind_of(one), one.health.trouble_since, one.health.unready_since) for one in seen}
    return drive(cluster, namespace, desired, before, now)


def test_deployments_of_ours_follow_the_fleet_and_no_others(
    given: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    ours = engine(given, namespace, "qwen3-32b-base")
    others = engine(given, namespace, "qwen3-32b-fast", driver="none")
    before = pods_of(given, others, namespace)
    (state,) = tick(cluster, namespace, {"qwen3-32b-base": 3, "qwen3-32b-fast": 7})
    assert (state.outcome, state.pods, state.said) == ("scaled", 3, "1 -> 3")
    assert (pods_of(given, ours, namespace), pods_of(given, others, namespace)) == (3, before)
    (starting,) = tick(cluster, namespace, {"qwen3-32b-base": 3})
    assert starting.outcome in ("starting", "stuck")  # the latter where a kubelet finds no such image
    (closed,) = tick(cluster, namespace, {"qwen3-32b-base": 0})
    assert (closed.outcome, pods_of(given, ours, namespace)) == ("scaled", 0)
    assert [state.outcome for state in tick(cluster, namespace, {"qwen3-32b-base": 0})] == ["in order"]
    (unknown,) = tick(cluster, namespace, {})
    assert (unknown.outcome, pods_of(given, ours, namespace)) == ("conflict", 0)


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
        (state,) = tick(cluster, "fought", {"qwen3-32b-base": 3})
        assert (state.outcome, state.is_in_order) == ("conflict", False)
        assert f"HorizontalPodAutoscaler/{name} scales it, too" in state.said
    assert pods_of(plane, name, "fought") == 1
    plane.succeed("kubectl", "delete", "horizontalpodautoscaler", name, "--namespace", "fought")
    assert [state.outcome for state in tick(cluster, "fought", {"qwen3-32b-base": 3})] == ["scaled"]


def test_two_releases_of_one_variant_are_a_conflict(given: ControlPlane, cluster: Cluster, namespace: str) -> None:
    names = [engine(given, namespace, "qwen3-32b-base", suffix=suffix) for suffix in ("-a", "-b")]
    states = tick(cluster, namespace, {"qwen3-32b-base": 2})
    assert [state.outcome for state in states] == ["conflict", "conflict"]
    assert [pods_of(given, name, namespace) for name in names] == [1, 1]


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

    seen: list[ScaleState] = []

    def state(after: timedelta = timedelta(0), **container_state: Any) -> tuple[str, str]:
        """What the driver says of it when the kubelet says this."""
        told = {"name": "engine", "image": "i", "imageID": "", "ready": False, "restartCount": 0} | container_state
        scheduled = container_state.get("conditions", [])
        status = {"phase": "Pending", "containerStatuses": [told], "conditions": scheduled}
        status = {"phase": "Pending", "conditions": scheduled} if scheduled else status
        stored = plane.object("pod", "p", "stuck") | {"status": status}
        path = "/api/v1/namespaces/stuck/pods/p/status"
        plane.succeed("kubectl", "replace", "--raw", path, "--filename", "-", text=json.dumps(stored))
        seen[:] = tick(cluster, "stuck", {"qwen3-32b-base": 1}, seen, NOW + after)
        return seen[0].outcome, seen[0].said

    assert state(state={"waiting": {"reason": "ContainerCreating"}}) == ("starting", "0 of 1 ready")
    # An image that cannot be pulled: two words of the kubelet's for one state.
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        said = {"waiting": {"reason": reason, "message": "manifest unknown"}}
        assert state(state=said) == ("stuck", f"engine: {reason}: manifest unknown")
    # Weights with another checksum: the init container's own sentence, while it waits and while it runs again.
    ended = {"terminated": {"exitCode": 1, "message": "qwen3-32b: model.safetensors has not the manifest's SHA-256"}}
    waits: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    runs: dict[str, Any] = {"running": {}}
    for restarts in range(1, 6):  # an accident at first; from the third time on it stays what it is
        for present in (waits, runs):
            outcome, sentence = state(state=present, lastState=ended, restartCount=restarts)
            assert outcome == ("starting" if restarts < 3 else "stuck")
            assert "has not the manifest's SHA-256" in sentence
    # A card that was lost: the next pod finds none, and none comes free.
    lost = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient gpu"}
    assert state(conditions=[lost])[0] == "starting"
    for seconds in (60, 70):
        assert state(timedelta(seconds=seconds), conditions=[lost]) == ("stuck", "Unschedulable: Insufficient gpu")


def test_what_the_deployment_itself_says_is_a_state_and_so_is_a_start_that_takes_too_long(
    plane: ControlPlane, cluster: Cluster
) -> None:
    name = engine(plane, "refused", "qwen3-32b-base")

    def says(*conditions: dict[str, str]) -> None:
        stored = plane.object("deployment", name, "refused") | {"status": {"conditions": list(conditions)}}
        path = f"/apis/apps/v1/namespaces/refused/deployments/{name}/status"
        plane.succeed("kubectl", "replace", "--raw", path, "--filename", "-", text=json.dumps(stored))

    def trouble(*, after: int = 0) -> tuple[str, str | None, str]:
        (found,) = tick(cluster, "refused", {"qwen3-32b-base": 1}, waiting, NOW + timedelta(seconds=after))
        return found.outcome, kind_of(found), found.said

    waiting = tick(cluster, "refused", {"qwen3-32b-base": 1})
    security = 'pods "p" is forbidden: violates PodSecurity "restricted:v1.31": privileged'
    says({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": security})
    assert trouble() == ("stuck", "refused", f"FailedCreate: {security}")
    late = {"reason": "ProgressDeadlineExceeded", "message": "ReplicaSet has timed out progressing."}
    says({"type": "Progressing", "status": "False"} | late)
    assert trouble() == ("stuck", "deadline", "ProgressDeadlineExceeded: ReplicaSet has timed out progressing.")
    # Kubernetes does not judge a release that was only scaled up. Its own deadline holds then, too.
    says({"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "progressed"})
    allowed = plane.object("deployment", name, "refused")["spec"]["progressDeadlineSeconds"]
    assert trouble(after=allowed) == ("starting", None, "0 of 1 ready")
    assert trouble(after=allowed + 1)[:2] == ("stuck", "deadline")


def test_kedas_object_for_a_deployment_of_ours_is_a_second_driver(plane: ControlPlane, cluster: Cluster) -> None:
    name = engine(plane, "keda", "qwen3-32b-base")
    with scaled_object(plane, name, "keda"):
        (state,) = tick(cluster, "keda", {"qwen3-32b-base": 3})
        assert (state.outcome, pods_of(plane, name, "keda")) == ("conflict", 1)
        assert "ScaledObject/hours scales it, too" in state.said
    assert [state.outcome for state in tick(cluster, "keda", {"qwen3-32b-base": 3})] == ["scaled"]


def test_an_api_server_that_is_away_for_ten_minutes_stops_nothing_and_is_told_once(
    plane: ControlPlane, worker: Engine, catalog: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, variant = tmp_path / "catalog", "smollm2-135m-instruct"
    shutil.copytree(REPOSITORY / "catalog", folder)
    with (folder / "sites/local.yaml").open("a") as file:
        file.write(CLUSTER_OF_THE_SITE.replace("dagster-engines", "away-engines"))
    name = engine(plane, "away-engines", variant)
    config = plane.kubeconfig.read_text()
    server = config.split("server: ")[1].split()[0]
    wire, front = Wire(int(server.rsplit(":", 1)[1])), Front(plane)

    def through(url: str) -> None:
        (tmp_path / "kubeconfig").write_text(config.replace(server, url))

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.5)

    def fleet_wants(replicas: int) -> None:
        with unit_of_work(worker) as session:
            session.execute(delete(DesiredReplicas))
            row = {"variant_id": variant, "replicas": replicas, "reason": "open", "decided_at": datetime.now(UTC)}
            session.execute(insert(DesiredReplicas).values(**row))

    def minutes_pass(minutes: int) -> None:
        """For the driver, which remembers since when nobody has answered."""
        with unit_of_work(worker) as session:
            earlier = ClusterContact.away_since - timedelta(minutes=minutes)
            session.execute(update(ClusterContact).values(away_since=earlier))

    with dg.DagsterInstance.ephemeral() as instance:
        location = Location({"worker_database": worker, "cluster_site": ClusterSite(folder, "local")}, instance)
        cursor: str | None = None

        def looks() -> tuple[dict[str, bool], str]:
            """What a tick records of the checks, and why it records nothing."""
            nonlocal cursor
            with location.tick("cluster_scale", cursor) as said:
                cursor = said.cursor
                judged = [one for one in said.asset_events if isinstance(one, dg.AssetCheckEvaluation)]
                return {one.check_name: one.passed for one in judged}, str(said.skip_message)

        through(f"https://127.0.0.1:{wire.port}")
        fleet_wants(1)
        looks()
        fleet_wants(3)
        wire.cut()
        with location.tick("tenants_drifted") as said:
            assert "could not be asked" in str(said.skip_message)
        recorded, why = looks()
        assert (recorded, "could not be asked" in why) == ({}, True)  # it may be a restart
        minutes_pass(1)
        assert looks()[0] == {"cluster_answers": False}
        through(front.url)
        moods: list[Callable[[int], Mood]] = [lambda _: "failing", lambda n: "well" if n % 2 else "failing"]
        for mood in (*moods, lambda _: "silent", *moods):
            front.be(mood)
            minutes_pass(2)
            recorded, why = looks()
            assert (recorded, "could not" in why) == ({}, True)  # red, and told once
        assert pods_of(plane, name, "away-engines") == 1
        with unit_of_work(worker) as session:
            away_since = session.scalars(select(ClusterContact.away_since)).one()
            kept = session.scalars(select(EnginePods.outcome)).one()
        assert away_since is not None
        assert datetime.now(UTC) - away_since > timedelta(minutes=10)
        assert kept == "starting"  # what was seen last

        front.be(lambda _: "well")
        assert looks()[0] == {
            "cluster_answers": True,
            "deployments_have_one_owner": True,
            "pods_of_engines_start": True,
        }
        assert pods_of(plane, name, "away-engines") == 3  # the number that was decided meanwhile
        with unit_of_work(worker) as session:
            assert session.scalars(select(ClusterContact.away_since)).one() is None
        for step in range(6):  # every second tick fails: nobody is told of it
            front.be(lambda _: "failing") if step % 2 else front.be(lambda _: "well")
            assert looks()[0].get("cluster_answers", True)
    wire.close()
    front.close()


def test_a_deployment_that_was_changed_meanwhile_is_not_overwritten(
    given: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    name = engine(given, namespace, "qwen3-32b-base")
    seen = given.object("deployment", name, namespace)["metadata"]["resourceVersion"]
    given.succeed("kubectl", "scale", "deployment", name, "--namespace", namespace, "--replicas=2")
    with pytest.raises(ClusterConflict, match="could not scale"):
        cluster.scale(name, namespace, 5, seen)
    assert pods_of(given, name, namespace) == 2


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
