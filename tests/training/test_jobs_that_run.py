"""Fine-tunes whose pods really run: API server, controllers and scheduler are Kubernetes' own, the node is a stand-in.

`tests/k8s/kubelet` is that node: the trainer's command runs as a process of this machine, after its Containerfile. What
it cannot show stands in docs/kubernetes.md. Needs root, and controllers beside the API server; says so where not run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from sqlalchemy import Engine, update

from local.demo.orders import training_examples
from studio import clock
from studio.catalog.declaration import DeclaredTraining
from studio.cluster.tenant_objects import Manifest
from studio.db.jobs import FineTuningJob
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from studio.settings import REPOSITORY, Settings
from studio.tenants import CreatedKey
from studio.weights import read_manifest
from tests.k8s.control_plane import ControlPlane, controlled, controllers, running
from tests.k8s.kubelet.images import trainer_image
from tests.k8s.kubelet.node import RunningNode, RunningPod
from tests.k8s.rendering import CHARTS, DIGEST
from tests.local.eventually import eventually
from tests.server import TestDatabase
from tests.serving.load import ROUNDS, SMALL
from tests.training.conftest import BASE
from tests.training.desk import Desk, push_weights
from training import jobs
from training import run as fine_tune_run
from training.cluster import ClusterTrainers
from training.job_manifest import StoreAccess, job_name
from training.run import Outcome, Workshop, run_fine_tune
from training.trainers import TrainerDied

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SECONDS = 300.0  # a trainer starts in 10 s on two quiet cores
CARD = "metax-tech.com/gpu"
DECLARED = DeclaredTraining.model_validate({"image": f"registry.example/trainer@{DIGEST}", "hours_most": 1})
NAMESPACE = DECLARED.namespace
SECRET = ("secret", "generic", DECLARED.credentials, "--namespace", NAMESPACE)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the node, for weights."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[RunningNode]:
    """Node-2 of the runbook: the training chart on a real control plane, two cards that are only a number."""
    binaries, folder = controllers(), tmp_path_factory.mktemp("node-2")
    images = {DECLARED.image: trainer_image(folder / "image")}
    local = {"create": True, "node": "node-2", "path": str(disk)}
    values = {"minKubeVersion": "0.0.0", "weights": {"localVolume": local}}
    arguments = ("install", "training", str(CHARTS / "training"), "--namespace", NAMESPACE, "--values", "-")
    with (
        running(binaries, tmp_path_factory.mktemp("control-plane"), features=("TTLAfterFinished",)) as plane,
        controlled(binaries, plane, features=("TTLAfterFinished",)),
        RunningNode(plane, "node-2", images, folder / "pods", DECLARED.node_selector, {CARD: "2"}) as node,
    ):
        plane.succeed("kubectl", "create", "namespace", NAMESPACE)
        plane.succeed("helm", *arguments, text=yaml.safe_dump(values))
        yield node


@pytest.fixture
def desk(
    node: RunningNode,
    worker: Engine,
    tenant: UUID,
    api_key: CreatedKey,
    tiny_model: Path,
    store: ObjectStore,
    s3_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """A workshop that trains in the cluster. Its runs look more often than ours do."""
    monkeypatch.setattr(fine_tune_run, "_POLL_SECONDS", 0.1)
    monkeypatch.setenv("KUBECONFIG", str(node.plane.kubeconfig))
    push_weights(store, tiny_model)
    access = StoreAccess(s3_settings.s3_endpoint_url, s3_settings.s3_bucket_prefix)
    return Desk(
        tenant, api_key.id, Workshop(worker, store, ClusterTrainers(store, access, DECLARED, CARD, look_seconds=0.1))
    )


@pytest.fixture
def credentials(node: RunningNode, s3_settings: Settings) -> Iterator[Callable[[], None]]:
    """Makes the Secret that pods take the object store's keys from; it goes with the test."""
    assert s3_settings.s3_access_key is not None
    assert s3_settings.s3_secret_key is not None
    keys = {
        "s3-access-key": s3_settings.s3_access_key.get_secret_value(),
        "s3-secret-key": s3_settings.s3_secret_key.get_secret_value(),
    }
    yield lambda: _made(node.plane, keys)
    node.plane.run("kubectl", "delete", *SECRET[:1], DECLARED.credentials, "--namespace", NAMESPACE)


def _made(plane: ControlPlane, keys: dict[str, str]) -> None:
    plane.succeed("kubectl", "create", *SECRET, *(f"--from-literal={key}={value}" for key, value in keys.items()))


class Story:
    """One fine-tune and its Job."""

    def __init__(self, node: RunningNode, desk: Desk) -> None:
        self.node, self.desk = node, desk
        self.job_id = desk.job()
        self.name = job_name(self.job_id)
        self.heard: list[str] = []

    def job(self) -> Manifest | None:
        """As it is stored."""
        found = self.node.plane.run("kubectl", "get", "job", self.name, "--namespace", NAMESPACE, "--output", "json")
        return json.loads(found.stdout) if found.returncode == 0 else None

    def pods(self) -> list[Manifest]:
        """Of the Job, oldest first."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=job-name%3D{self.name}"
        found: list[Manifest] = self.node.plane.ask("GET", path)["items"]
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def change(self, **spec: int) -> None:
        """An operator changes the Job."""
        patch = json.dumps({"spec": spec})
        self.node.plane.succeed("kubectl", "patch", "job", self.name, "--namespace", NAMESPACE, "--patch", patch)

    def trains(self, nth: int = 1) -> RunningPod:
        """The nth pod, once its trainer runs."""

        def runs() -> bool:
            statuses = [pod.get("status", {}).get("containerStatuses") or [{}] for pod in self.pods()]
            return len(statuses) >= nth and "running" in statuses[nth - 1][0].get("state", {})

        eventually(runs, f"trainer {nth} of {self.name} runs", SECONDS)
        return self.node.pod(self.pods()[nth - 1]["metadata"]["name"])

    def run(self) -> Any:
        """A run to its end, or what it raises. One that was killed before may still hold the job for a moment."""
        while True:
            try:
                return run_fine_tune(self.desk.shop, self.job_id, on_trouble=self.heard.append)
            except jobs.AnotherRunWorks:
                time.sleep(0.1)
            except TrainerDied as died:
                return died

    def begin(self) -> Callable[[], Any]:
        """A run in a thread; call what comes back for its end."""
        ended: list[Any] = []
        thread = threading.Thread(target=lambda: ended.append(self.run()), daemon=True)
        thread.start()

        def end() -> Any:
            thread.join(SECONDS)
            return ended.pop()

        return end

    def steps(self) -> list[int]:
        """That the tenant sees."""
        return [event.data["step"] for event in self.desk.events(self.job_id) if event.type == "metrics"]


@pytest.fixture
def story(node: RunningNode, desk: Desk) -> Story:
    return Story(node, desk)


def test_a_fine_tune_trains_in_a_pod_that_outlives_its_run_and_goes_when_its_time_is_over(
    story: Story, credentials: Callable[[], None], database: TestDatabase, s3_settings: Settings
) -> None:
    credentials()
    with one_run(story, database, s3_settings) as first:
        pod = story.trains()
        first.kill()  # Dagster's process, and nobody looks for a while
    made = story.job()
    assert made is not None
    outcome = story.run()
    assert outcome.ending == "succeeded", pod.log("trainer")

    after = story.job()
    assert after is not None
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    (ended,) = story.pods()
    states = [
        one["state"]["terminated"]["reason"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for one in ended["status"][kind]
    ]
    assert (ended["status"]["phase"], states) == ("Succeeded", ["Completed", "Completed"])
    assert story.steps() == [1, 2, 3, 4, 5, 6]  # through the object store, each once
    said = [event.message for event in story.desk.events(story.job_id)]
    assert said.count("Training has started") == 1
    (adapter,) = story.desk.adapters(story.job_id)
    assert story.desk.row(story.job_id).state == "succeeded"
    assert adapter.size_bytes > 0
    logged = pod.log("weights") + pod.log("trainer")
    assert logged
    assert not [example.text for example in training_examples(12, seed=1) if example.text in logged]  # of `GOOD`

    story.change(ttlSecondsAfterFinished=1)  # a day, as declared
    eventually(lambda: story.job() is None and not story.pods(), "Kubernetes removes what is over", 30)


def test_what_keeps_a_pod_from_training_is_told_in_words_and_a_deadline_ends_it(
    story: Story, credentials: Callable[[], None], store: ObjectStore, disk: Path
) -> None:
    for copy in disk.iterdir():  # that another test has brought there
        shutil.rmtree(copy)
    (file,) = [one for one in read_manifest(store, BASE).files if one.path == "model.safetensors"]
    key = read_manifest(store, BASE).object_key(file)
    store.put(Bucket.MODELZOO, key, b"x" * file.size_bytes)  # of the right length, and not what was declared
    end = story.begin()
    missing = 'weights: CreateContainerConfigError: secret "training-s3" not found'
    eventually(lambda: missing in story.heard, "the missing secret is told", SECONDS)
    credentials()
    eventually(lambda: any("SHA-256" in heard for heard in story.heard), "so are the wrong weights", SECONDS)
    assert story.desk.row(story.job_id).state == "running"
    story.change(activeDeadlineSeconds=1)
    died = str(end())
    assert "the Job ended as DeadlineExceeded: Job was active longer than specified deadline" in died
    assert "SHA-256" in died
    assert story.job() is None


def one_run(story: Story, database: TestDatabase, settings: Settings) -> subprocess.Popen[bytes]:
    """A run that can be killed."""
    assert settings.s3_access_key is not None
    assert settings.s3_secret_key is not None
    told = {
        "WORKER_URL": database.url("worker"),
        "STUDIO_S3_ENDPOINT_URL": settings.s3_endpoint_url or "",
        "STUDIO_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "STUDIO_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }
    command = [sys.executable, "-m", "tests.training.one_run", str(story.job_id), DECLARED.model_dump_json()]
    return subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | told)


def _after_a_lost_pod(story: Story) -> None:
    """As when its node runs out of memory: the next pod goes on from the checkpoint."""
    end = story.begin()
    pod = story.trains()
    eventually(lambda: len(story.steps()) >= 3, "it has made steps", SECONDS)
    pod.kill()
    assert end().ending == "succeeded"
    assert [one["status"]["phase"] for one in story.pods()] == ["Failed", "Succeeded"]
    assert pod.status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    said = [event.message for event in story.desk.events(story.job_id)]
    assert any(message.startswith("Training goes on from step") for message in said)
    assert story.steps() == [1, 2, 3, 4, 5, 6]


def _after_a_change_of_mind(story: Story) -> None:
    """Cancelled while it trains: its process is told, ends by itself, and only then the job has ended."""
    end = story.begin()
    pod = story.trains()
    eventually(lambda: len(story.steps()) >= 1, "it has made a step", SECONDS)
    with unit_of_work(story.desk.shop.database) as session:
        cancel = update(FineTuningJob).where(FineTuningJob.id == story.job_id)
        session.execute(cancel.values(cancel_requested_at=clock.now()))
    assert end() == Outcome("cancelled")
    assert pod.status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143  # not 137: nobody killed it
    assert (story.job(), story.pods()) == (None, [])
    assert story.desk.row(story.job_id).state == "cancelled"


STORIES = [_after_a_lost_pod, _after_a_change_of_mind]


if ROUNDS > SMALL:  # `make chaos`: each starts one or two trainers more

    @pytest.mark.chaos
    @pytest.mark.parametrize("happens", STORIES)
    def test_what_happens_to_a_pod_in_the_middle_of_its_training(
        happens: Callable[[Story], None], story: Story, credentials: Callable[[], None]
    ) -> None:
        credentials()
        happens(story)
