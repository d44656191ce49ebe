"""Fine-tunes as Jobs, on a real Kubernetes API server. The test plays Job controller, kubelet and trainer.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import Engine, text, update

from studio import clock, weights
from studio.catalog.declaration import DeclaredTraining
from studio.cluster.connection import ClusterAway
from studio.db.jobs import FineTuningJob
from studio.db.sessions import unit_of_work
from studio.objects import ObjectStore
from studio.tenants import CreatedKey
from tests.k8s.control_plane import ControlPlane, assets, running
from tests.k8s.rendering import DIGEST
from tests.k8s.test_charts import VERSIONS, assert_restricted, judge
from tests.k8s.wire import Wire
from tests.local.eventually import eventually
from tests.orchestration.location import Location
from tests.training import adapters
from tests.training.conftest import BASE
from tests.training.desk import Desk, push_weights
from training import jobs
from training import run as fine_tune_run
from training.adapter_check import stored_tensor_shapes, tensor_shapes
from training.cluster import ClusterTrainers, waits_for
from training.job_manifest import FINE_TUNE_LABEL, QUEUE_LABEL, StoreAccess, job_name
from training.jobs import HoldLost
from training.progress import ProgressLog
from training.run import Outcome, Workshop, run_fine_tune
from training.spec import REFUSED, TrainerJob
from training.trainers import TrainerDied

DECLARED = DeclaredTraining.model_validate({"image": f"registry.example/trainer@{DIGEST}", "host_groups": [44, 109]})
NAMESPACE = DECLARED.namespace


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running(assets(), tmp_path_factory.mktemp("control-plane")) as plane:
        plane.succeed("kubectl", "create", "namespace", NAMESPACE)
        plane.succeed("kubectl", "create", "priorityclass", "studio-training", "--value=-100")
        yield plane


@pytest.fixture
def wire(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Between us and the API server."""
    config = plane.kubeconfig.read_text()
    port = config.split("https://127.0.0.1:")[1].split()[0]
    wire = Wire(int(port))
    (tmp_path / "kubeconfig").write_text(config.replace(f"127.0.0.1:{port}", f"127.0.0.1:{wire.port}"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield wire
    wire.close()


@pytest.fixture
def desk(
    wire: Wire,
    tmp_path: Path,
    worker: Engine,
    tenant: UUID,
    api_key: CreatedKey,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """A base of two tensors, and a workshop that trains in the cluster. Runs look ten times a second, not once."""
    monkeypatch.setattr(fine_tune_run, "_POLL_SECONDS", 0.1)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(adapters.weights(adapters.SHAPES))
    push_weights(store, model)
    trainers = ClusterTrainers(
        store, StoreAccess("http://s3.studio.svc:8333", "x-"), DECLARED, "metax-tech.com/gpu", look_seconds=0.1
    )
    return Desk(tenant, api_key.id, Workshop(worker, store, trainers))


class Run:
    """A run of Dagster's, in a thread."""

    def __init__(self, shop: Workshop, job_id: UUID) -> None:
        self.heard: list[str] = []
        self._ended: list[object] = []
        self._thread = threading.Thread(target=self._work, args=(shop, job_id))
        self._thread.start()

    def _work(self, shop: Workshop, job_id: UUID) -> None:
        try:
            self._ended.append(run_fine_tune(shop, job_id, on_trouble=self.heard.append))
        except (HoldLost, TrainerDied, jobs.AnotherRunWorks, ClusterAway) as error:
            self._ended.append(error)

    def ends(self) -> Any:
        """How."""
        self._thread.join(60)
        return self._ended.pop()


class Node:
    """Job controller, kubelet and trainer of one fine-tune."""

    def __init__(self, plane: ControlPlane, desk: Desk, job_id: UUID) -> None:
        self._plane, self._desk, self._job_id = plane, desk, job_id
        self.name = job_name(job_id)
        self._pods = 0

    def job(self) -> Any:
        """As it is stored; None when it is not there."""
        found = self._plane.run("kubectl", "get", "job", self.name, "--namespace", NAMESPACE, "--output", "json")
        return json.loads(found.stdout) if found.returncode == 0 else None

    def start(self, status: dict[str, Any] | None = None) -> str:
        """Make the next pod, as soon as the Job is there; its name."""
        eventually(lambda: self.job() is not None, "there is a Job", 30)
        template = self.job()["spec"]["template"]
        self._pods += 1
        name = f"{self.name}-{self._pods}"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name}}
        self._create(pod | {"spec": template["spec"]})
        self.pod_is(name, status or {"phase": "Running"})
        return name

    def pod_is(self, pod: str, status: dict[str, Any]) -> None:
        """The kubelet's word."""
        self._say("pods", pod, status)

    def ends(self, pod: str, code: int, reason: str = "BackoffLimitExceeded") -> None:
        """The container ends, then the Job."""
        ended = {"exitCode": code, "reason": "Error" if code else "Completed"}
        container = {"name": "trainer", "state": {"terminated": ended}, "ready": False, "restartCount": 0}
        container |= {"image": DECLARED.image, "imageID": ""}
        self.pod_is(pod, {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]})
        self.job_is("Failed" if code else "Complete", reason)

    def job_is(self, condition: str, reason: str) -> None:
        """The controller's word."""
        said = {"type": condition, "status": "True", "reason": reason, "message": f"said {reason}"}
        self._say("jobs", self.name, {"conditions": [said]}, "/apis/batch/v1")

    def delete(self, kind: str, name: str) -> None:
        """Without waiting for anybody."""
        self._plane.succeed("kubectl", "delete", kind, name, "--namespace", NAMESPACE, "--force", "--grace-period=0")

    def task(self) -> TrainerJob:
        """What the pod's command tells the trainer."""
        (container,) = self.job()["spec"]["template"]["spec"]["containers"]
        command = container["command"]
        assert command[:4] == ["python", "-m", "training.trainer", "--job-text"]
        return TrainerJob.from_json(command[4])

    def trains(self) -> None:
        """What the trainer leaves: a step, and an adapter that fits."""
        prefix, task = self._desk.prefix(self._job_id), self.task()
        log = ProgressLog(prefix, task.first_seq)
        while log.read_next() is not None:
            pass
        log.metrics("Step 1/1", {"step": 1, "total_steps": 1, "train_loss": 0.5})
        bodies = {
            "adapter_config.json": adapters.config(base_model_name_or_path=BASE),
            "adapter_model.safetensors": adapters.weights(adapters.lora()),
        }
        for name, body in bodies.items():
            prefix.put(f"adapter/{name}", body)
        files = [_described(name, body) for name, body in bodies.items()]
        prefix.put("adapter/manifest.json", json.dumps({"trained_tokens": 7, "files": files}).encode())

    def _create(self, document: dict[str, Any]) -> None:
        arguments = ("create", "--validate=false", "--namespace", NAMESPACE, "--filename", "-")
        self._plane.succeed("kubectl", *arguments, text=json.dumps(document))

    def _say(self, kind: str, name: str, status: dict[str, Any], group: str = "/api/v1") -> None:
        path = f"{group}/namespaces/{NAMESPACE}/{kind}/{name}"
        stored = json.loads(self._plane.succeed("kubectl", "get", "--raw", path)) | {"status": status}
        said = ("kubectl", "replace", "--raw", f"{path}/status", "--filename", "-")
        self._plane.succeed(*said, text=json.dumps(stored))


def _described(name: str, body: bytes) -> dict[str, Any]:
    return {"name": name, "size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@pytest.fixture
def at_work(plane: ControlPlane, desk: Desk) -> Callable[[], tuple[UUID, Node, Run]]:
    """A new fine-tune whose run has begun."""

    def begin() -> tuple[UUID, Node, Run]:
        job_id = desk.job()
        return job_id, Node(plane, desk, job_id), Run(desk.shop, job_id)

    return begin


Begin = Callable[[], tuple[UUID, Node, Run]]


def test_a_fine_tune_trains_in_one_restricted_job_that_ends_by_itself(
    desk: Desk, at_work: Begin, tmp_path: Path
) -> None:
    job_id, node, run = at_work()
    pod = node.start()
    node.trains()
    node.ends(pod, 0)
    assert run.ends().ending == "succeeded"
    (adapter,) = desk.adapters(job_id)
    assert (desk.row(job_id).state, adapter.rank) == ("succeeded", 4)
    assert [event.seq for event in desk.events(job_id)] == list(range(1, len(desk.events(job_id)) + 1))

    trainers = desk.shop.trainers
    assert isinstance(trainers, ClusterTrainers)
    with unit_of_work(desk.shop.database) as session:
        manifest = trainers._manifest(jobs.fine_tune(session, job_id), node.task())
    spec, template = manifest["spec"], manifest["spec"]["template"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"], spec["backoffLimit"]) == (86400, 86400, 3)
    assert spec["podReplacementPolicy"] == "Failed"
    ignored, failed = spec["podFailurePolicy"]["rules"]
    assert (ignored["action"], failed["action"]) == ("Ignore", "FailJob")
    assert failed["onExitCodes"] == {"containerName": "trainer", "operator": "In", "values": [REFUSED]}
    assert_restricted(template["spec"])
    assert template["spec"]["priorityClassName"] == "studio-training"
    assert template["spec"]["nodeSelector"] == {"studio.xpulink.ai/role": "training"}
    (bringing,), (trainer,) = template["spec"]["initContainers"], template["spec"]["containers"]
    assert trainer["resources"]["limits"]["metax-tech.com/gpu"] == "1"
    assert bringing["command"][:4] == ["python", "-m", "local.fetch_weights", BASE]
    for container in (bringing, trainer):
        variables = {one["name"]: one for one in container["env"]}
        assert variables["STUDIO_S3_SECRET_KEY"]["valueFrom"]["secretKeyRef"] == {
            "name": "training-s3",
            "key": "s3-secret-key",
        }
        assert variables["STUDIO_S3_BUCKET_PREFIX"]["value"] == "x-"
    # Field by field, in every Kubernetes that is supported.
    (tmp_path / "job.json").write_text(json.dumps(manifest))
    for judging in [judge(version, tmp_path / "job.json") for version in VERSIONS]:
        said, _ = judging.communicate()
        assert judging.returncode == 0, said
    # Where Kueue is asked for, the Job waits for it.
    queued = replace(trainers, declared=DECLARED.model_copy(update={"queue": "fine-tunes"}))
    with unit_of_work(desk.shop.database) as session:
        manifest = queued._manifest(jobs.fine_tune(session, job_id), node.task())
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "fine-tunes"
    assert manifest["spec"]["suspend"] is True


def test_a_job_outlives_its_run_and_the_next_run_goes_on_with_it(desk: Desk, at_work: Begin) -> None:
    job_id, node, run = at_work()
    pod = node.start()
    made = node.job()["metadata"]["uid"]
    with unit_of_work(desk.shop.database) as session:  # Dagster's process dies: so does its connection
        session.execute(text("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"))
    assert type(run.ends()) is HoldLost
    node.trains()
    node.ends(pod, 0)  # while nobody looks
    said = len(desk.events(job_id))
    assert run_fine_tune(desk.shop, job_id).ending == "succeeded"
    assert node.job()["metadata"]["uid"] == made, "the same Job"
    messages = [event.message for event in desk.events(job_id)]
    assert messages.count("Training has started") == 1
    assert len(messages) > said


def test_two_runs_of_one_fine_tune_meet_in_one_job(plane: ControlPlane, desk: Desk, at_work: Begin) -> None:
    job_id, node, run = at_work()
    node.start()
    with pytest.raises(jobs.AnotherRunWorks):
        run_fine_tune(desk.shop, job_id)
    # Without the database's lock between them, too: the name is the same, so the second finds the first one's Job.
    trainers = desk.shop.trainers
    with unit_of_work(desk.shop.database) as session:
        job = jobs.fine_tune(session, job_id)
    with trainers.training(job, node.task(), Path("/")) as second:
        assert second.poll() is None
    selected = f"{FINE_TUNE_LABEL}={job_id.hex}"
    found = plane.succeed(
        "kubectl", "get", "jobs", "--namespace", NAMESPACE, "--selector", selected, "--output", "name"
    )
    assert found.split() == [f"job.batch/{node.name}"]
    node.delete("job", node.name)
    assert type(run.ends()) is TrainerDied


def test_a_job_that_somebody_removes_is_tried_again_but_never_beside_its_pod(desk: Desk, at_work: Begin) -> None:
    job_id, node, run = at_work()
    pod = node.start()
    node.delete("job", node.name)
    assert "somebody removed it" in str(run.ends())
    assert desk.row(job_id).state == "running", "it is open for the next generation"

    again = Run(desk.shop, job_id)
    eventually(lambda: "A pod of an earlier Job has not ended yet" in again.heard, "it waits for the pod", 30)
    assert node.job() is None
    node.delete("pod", pod)
    eventually(lambda: node.job() is not None, "then it makes a Job", 30)
    pod = node.start()
    node.trains()
    node.ends(pod, 0)
    assert again.ends().ending == "succeeded"


def test_cancelling_removes_the_job_and_waits_for_its_pod(desk: Desk, at_work: Begin) -> None:
    job_id, node, run = at_work()
    pod = node.start()
    _cancel(desk, job_id)
    eventually(lambda: node.job() is None, "the Job goes", 30)
    assert desk.row(job_id).state == "running", "not before its pod has"
    node.delete("pod", pod)
    assert run.ends() == Outcome("cancelled")
    assert desk.row(job_id).state == "cancelled"


def test_cancelled_while_no_run_looks_the_sensor_ends_the_trainer_first(desk: Desk, at_work: Begin) -> None:
    job_id, node, run = at_work()
    pod = node.start()
    node.delete("job", node.name)
    run.ends()
    _cancel(desk, job_id)
    with dg.DagsterInstance.ephemeral() as instance:
        location = Location({"workshop": desk.shop}, instance)
        assert location.asks("fine_tunes") == []
        assert desk.row(job_id).state == "running", "a pod may still write"
        node.delete("pod", pod)
        assert location.asks("fine_tunes") == []
    assert desk.row(job_id).state == "cancelled"


def test_an_api_server_that_is_away_stops_nothing(desk: Desk, at_work: Begin, wire: Wire) -> None:
    wire.cut()
    job_id, node, run = at_work()
    eventually(lambda: len(run.heard) == 1, "it waits before it starts anything", 30)
    assert desk.row(job_id).state == "validating_files"
    wire.mend()
    pod = node.start()
    wire.cut()
    eventually(lambda: "could not be asked" in run.heard[-1], "it hears nothing", 30)
    node.trains()  # the trainer and its store are not away
    eventually(lambda: any(event.type == "metrics" for event in desk.events(job_id)), "steps are seen", 30)
    wire.mend()
    eventually(lambda: run.heard[-1] == "", "it hears again", 30)
    node.ends(pod, 0)
    assert run.ends().ending == "succeeded"


def test_an_image_that_cannot_be_pulled_and_a_card_that_is_not_free_are_told(desk: Desk, at_work: Begin) -> None:
    _, node, run = at_work()
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes: no card"}
    pod = node.start({"phase": "Pending", "conditions": [scheduled]})
    eventually(lambda: "Unschedulable: 0/2 nodes: no card" in run.heard, "it waits for a card", 30)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    container = {"name": "weights", "state": waiting, "ready": False, "restartCount": 0, "imageID": ""}
    node.pod_is(pod, {"phase": "Pending", "initContainerStatuses": [container | {"image": DECLARED.image}]})
    eventually(lambda: run.heard[-1] == "weights: ImagePullBackOff: not found", "its image is not there", 30)
    node.delete("pod", pod)
    node.job_is("Failed", "DeadlineExceeded")
    assert "the Job ended as DeadlineExceeded" in str(run.ends())
    assert node.job() is None, "its name is free for the next generation"


def test_what_the_trainer_refuses_ends_the_fine_tune_and_what_kills_it_does_not(desk: Desk, at_work: Begin) -> None:
    job_id, node, run = at_work()
    pod = node.start()
    node.ends(pod, 137)
    assert "exit status 137" in str(run.ends())
    assert desk.row(job_id).state == "running"

    again = Run(desk.shop, job_id)
    node.delete("pod", pod)
    pod = node.start()
    ProgressLog(desk.prefix(job_id), node.task().first_seq).message(
        "Nothing to learn.", "error", {"param": "training_file"}
    )
    node.ends(pod, REFUSED, "PodFailurePolicy")
    assert again.ends() == Outcome("failed", "Nothing to learn.", "invalid_training_file")


def test_a_quota_below_what_is_wanted_is_told_and_waited_for(plane: ControlPlane, desk: Desk, at_work: Begin) -> None:
    hard = {"count/jobs.batch": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": hard}}
    where = ("--namespace", NAMESPACE)
    plane.succeed("kubectl", "create", *where, "--filename", "-", text=json.dumps(quota))
    path = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas/none"
    counted = plane.object("resourcequota", "none", NAMESPACE) | {"status": {"hard": hard, "used": hard}}
    plane.succeed("kubectl", "replace", "--raw", f"{path}/status", "--filename", "-", text=json.dumps(counted))
    _, node, run = at_work()
    eventually(lambda: any("exceeded quota: none" in said for said in run.heard), "it is told", 30)
    plane.succeed("kubectl", "delete", "resourcequota", "none", *where)
    pod = node.start()
    node.trains()
    node.ends(pod, 0)
    assert run.ends().ending == "succeeded"


def test_a_job_that_somebody_holds_says_whom_it_waits_for() -> None:
    """The server of these tests is older than `suspend`, and Kueue is on none."""
    held = {"metadata": {"labels": {QUEUE_LABEL: "fine-tunes"}}, "spec": {"suspend": True}}
    assert waits_for(held, []) == "The Job waits in Kueue's queue 'fine-tunes'"
    assert waits_for(held | {"metadata": {}}, []) == "The Job is suspended: somebody has to resume it"
    assert waits_for(held | {"spec": {"suspend": False}}, []) == ""


def test_the_shapes_of_a_stored_base_are_those_of_its_folder(desk: Desk, store: ObjectStore, tmp_path: Path) -> None:
    stored = stored_tensor_shapes(store, weights.read_manifest(store, BASE))
    assert stored == tensor_shapes(tmp_path / "model") == dict(adapters.SHAPES)


def _cancel(desk: Desk, job_id: UUID) -> None:
    with unit_of_work(desk.shop.database) as session:
        session.execute(update(FineTuningJob).where(FineTuningJob.id == job_id).values(cancel_requested_at=clock.now()))
