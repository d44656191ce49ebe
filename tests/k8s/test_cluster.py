"""Our driver on a real Kubernetes API server: the number of an engine's pods, and how they are.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine, delete, insert, select, update

from assets.cluster import ClusterSite
from studio.cluster import connection
from studio.cluster.connection import Cluster, ClusterConflict
from studio.cluster.health import Before
from studio.cluster.scaling import ScaleState, drive
from studio.db.fleet import ClusterContact, DesiredReplicas, EnginePods
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from tests.k8s.control_plane import ControlPlane
from tests.k8s.front import Front, Mood
from tests.k8s.rendering import DIGEST
from tests.k8s.scaled_objects import scaled_object
from tests.k8s.site_cluster import CLUSTER_OF_THE_SITE, engine, pods_of
from tests.k8s.wire import Wire
from tests.orchestration.location import Location

NOW = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)


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
