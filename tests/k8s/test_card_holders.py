"""Who works on a card, without anybody writing it by hand: chart, fleet, API server, kubelet, exporter.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest
import yaml
from sqlalchemy import Engine, insert, update

from assets.cluster import ClusterSite
from studio import ids
from studio.db.jobs import File, FineTuningJob
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.k8s.conftest import InProcess
from tests.k8s.control_plane import ControlPlane
from tests.k8s.exporter.node import GpuNode, Kubelet
from tests.k8s.rendering import CHARTS, DIGEST, MONITORING, Values, merged
from tests.k8s.site_cluster import engine
from tests.orchestration.location import Location
from training.job_manifest import job_name

NODES, ENGINES, TRAINING = "holders-nodes", "holders-engines", "holders-training"
BASE = "smollm2-135m-instruct"
SITE = f"""
cluster:
  engines: {ENGINES}
  nodes: {NODES}
  gateway: {{namespace: studio, port: 8080}}
  s3: {{namespace: studio, port: 8333}}
  tenants: {{initech: {{cards: 1}}}}
  training: {{namespace: {TRAINING}, image: "registry.example/trainer@{DIGEST}"}}
"""
ONLY_THE_EXPORTER: Values = {
    "minKubeVersion": "0.0.0",
    **{part: {"enabled": False} for part in ("prometheus", "alertmanager", "grafana", "loki", "state")},
    "blocks": {"enabled": False, "endpoint": "", "region": ""},
    "nodes": {"namespace": NODES, "logs": {"enabled": False}, "exporter": {"keeper": {"namespace": "holders-studio"}}},
}


@pytest.fixture
def code(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    """The cluster, which this process talks to as the account of Dagster's code: with its rights and no others."""
    plane.with_namespaces("holders-studio", NODES, ENGINES, TRAINING)
    account = ("--namespace", "holders-studio")
    plane.run("kubectl", "create", "serviceaccount", "studio-dagster-code", *account)
    token = plane.succeed("kubectl", "create", "token", "studio-dagster-code", *account).strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    # Of the Dagster chart's role in the engines' namespace, what this needs.
    role = ("--verb=list", "--resource=deployments.apps", "--namespace", ENGINES)
    plane.run("kubectl", "create", "role", "fleet", *role)
    bound = ("--role=fleet", "--serviceaccount=holders-studio:studio-dagster-code", "--namespace", ENGINES)
    plane.run("kubectl", "create", "rolebinding", "fleet", *bound)
    return plane


def helm(plane: ControlPlane, verb: str, *parts: Values) -> None:
    """The monitoring chart, of which only the exporter is on."""
    chart, text = str(CHARTS / "monitoring"), yaml.safe_dump(merged(MONITORING, ONLY_THE_EXPORTER, *parts))
    plane.succeed("helm", verb, "holders", chart, "--namespace", "holders-studio", "--values", "-", text=text)


@pytest.fixture
def location(worker: Engine, catalog: None, tmp_path: Path) -> Iterator[Location]:
    """Dagster at a site with that cluster."""
    folder = tmp_path / "catalog"
    shutil.copytree(REPOSITORY / "catalog", folder)
    with (folder / "sites/local.yaml").open("a") as file:
        file.write(SITE)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location({"worker_database": worker, "cluster_site": ClusterSite(folder, "local")}, instance)


def fine_tune_of(worker: Engine, operator: Engine, tenant: UUID) -> UUID:
    """One that is open."""
    with unit_of_work(operator) as session:
        key = create_key(session, tenant, "key", "tests", scopes=["inference"]).id
    job, file = ids.uuid7(), ids.uuid7()
    with unit_of_work(worker) as session:
        own = {"id": file, "tenant_id": tenant, "purpose": "fine-tune", "filename": "f.jsonl", "size_bytes": 1}
        session.execute(insert(File).values(sha256="0" * 64, object_key=f"{tenant}/{file}", **own))
        of = {"id": job, "tenant_id": tenant, "api_key_id": key, "variant_id": BASE, "training_file_id": file}
        session.execute(insert(FineTuningJob).values(state="running", seed=7, hyperparameters={}, **of))
    return job


def test_the_exporter_is_told_by_the_fleet_what_every_pod_with_a_card_works_for(
    code: ControlPlane, location: Location, worker: Engine, operator: Engine, node: GpuNode, kubelet: Kubelet
) -> None:
    def looks() -> str:
        with location.tick("card_holders") as said:
            return str(said.skip_message)

    assert looks() == "The list of who holds cards: nobody asks."  # without the chart there is no right, and no harm
    helm(code, "install")
    deployment = engine(code, ENGINES, "qwen3-32b-fast")
    other = engine(code, ENGINES, "qwen3-32b", driver="none")  # whoever scales it
    acme, _ = new_tenant(operator, "acme"), new_tenant(operator, "initech")
    job = fine_tune_of(worker, operator, acme)
    assert looks() == "The list of who holds cards: written."
    assert looks() == "The list of who holds cards: in order."

    # What a kubelet mounts; pods as controllers name them.
    mounted = node.folder / "workloads.json"

    def mount() -> None:
        mounted.write_text(code.object("configmap", "studio-workloads", NODES)["data"]["workloads.json"])

    mount()
    exporter = InProcess(node.settings(workloads=str(mounted)))
    kubelet.run(ENGINES, f"{deployment}-7c9f5d-x2k4p", "GPU-0000")
    kubelet.run(ENGINES, f"{other}-86b4f-9qwer", "GPU-0001")
    kubelet.run(TRAINING, f"{job_name(job)}-vw7zt", "GPU-0002")
    kubelet.run("tenant-initech", "notebook", "GPU-0003")

    def named() -> dict[str, tuple[str, str, str]]:
        return {
            labels["uuid"]: (labels["served_model"], labels["variant"], labels["tenant"])
            for labels in exporter.after_a_pass().labels("studio_gpu_workload_info")
        }

    assert named() == {
        "GPU-0000": ("qwen3-32b", "qwen3-32b-fast", ""),
        "GPU-0001": ("qwen3-32b", "qwen3-32b", ""),
        "GPU-0002": (BASE, "", "acme"),
        "GPU-0003": ("", "", "initech"),
    }
    assert exporter.scrape().value("studio_exporter_unnamed_workloads") == 0

    # An upgrade of the chart leaves the list; a fine-tune that has ended and an engine that was removed leave it.
    helm(code, "upgrade", {"nodes": {"exporter": {"recordsFolder": "/var/lib/elsewhere"}}})
    assert looks() == "The list of who holds cards: in order."
    with unit_of_work(worker) as session:
        session.execute(update(FineTuningJob).values(state="succeeded"))
    code.succeed("kubectl", "delete", "deployment", other, "--namespace", ENGINES)
    assert looks() == "The list of who holds cards: written."
    mount()
    assert named() == {
        "GPU-0000": ("qwen3-32b", "qwen3-32b-fast", ""),
        "GPU-0001": ("", "", ""),
        "GPU-0003": ("", "", "initech"),
    }
    assert exporter.scrape().value("studio_exporter_unnamed_workloads") == 1

    # The account may do this and nothing else there; a list by hand is another object, and the fleet leaves it alone.
    account = ("--as", "system:serviceaccount:holders-studio:studio-dagster-code", "--namespace", NODES)
    rights = code.succeed("kubectl", "auth", "can-i", "--list", *account)
    assert [line.split() for line in rights.splitlines() if "configmaps" in line] == [
        ["configmaps", "[]", "[studio-workloads]", "[get", "patch]"]
    ]
    by_hand = [{"namespace": ENGINES, "pod": "*", "variant": "mine"}]
    helm(code, "upgrade", {"nodes": {"exporter": {"workloads": by_hand}}})
    assert looks() == "The list of who holds cards: nobody asks."
    assert json.loads(code.object("configmap", "holders-workloads", NODES)["data"]["workloads.json"]) == by_hand
