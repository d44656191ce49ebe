"""The charts on a real Kubernetes API server: it takes every object, and a release leaves a driver's number alone.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from k8s.engine_values import VALUES
from tests.k8s.control_plane import ControlPlane
from tests.k8s.rendering import CHARTS, ENGINE, GATEWAY, HELMS, MONITORING, Document, Values, merged, only, template
from tests.local.eventually import eventually


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane) -> ControlPlane:
    """An API server with the namespaces of the platform."""
    return plane.with_namespaces("engines", "studio", "monitoring", "monitoring-nodes")


@pytest.fixture(scope="module")
def known(cluster: ControlPlane) -> Values:
    """Values that leave out what an old server does not know."""
    if cluster.knows("autoscaling/v2"):
        return {}
    return {
        "minKubeVersion": "0.0.0",  # a server that was built from source may not know its version
        "podDisruptionBudget": {"enabled": False},
    }


def dry_run(cluster: ControlPlane, documents: list[Document]) -> Any:
    """Server-side apply without an effect: what the server would store, or its refusal."""
    return cluster.run(
        *("kubectl", "apply", "--server-side", "--dry-run=server", "--validate=false", "--filename", "-"),
        text=yaml.safe_dump_all(documents),
    )


def deployment_name(values: Values) -> str:
    """What the release calls its Deployment."""
    return str(only(template("engine", values), "Deployment")["metadata"]["name"])


def helm(cluster: ControlPlane, version: str, *arguments: str, values: Values) -> None:
    """helm with values on its standard input."""
    cluster.succeed(version, *arguments, "--values", "-", text=yaml.safe_dump(merged(values)))


def test_the_server_takes_every_release_of_the_catalog(cluster: ControlPlane, known: Values) -> None:
    files = sorted(VALUES.glob("*.yaml"))
    releases = [template("engine", merged(ENGINE, yaml.safe_load(file.read_text()), known)) for file in files]
    local = {"models": {"localVolume": {"create": True, "node": "node-1"}}}
    rest = template("engine", merged(ENGINE, known, local))
    answer = dry_run(cluster, [*(only(release, "Deployment") for release in releases), *rest])
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("serverside-applied") == len(files) + len(rest)


def test_the_server_takes_the_gateway_with_its_parts_on_and_off(cluster: ControlPlane, known: Values) -> None:
    valkey = {"secrets": {"valkey_url": {"name": "valkey"}}}
    local = {"journal": {"localVolume": {"create": True, "nodes": ["node-1"] * 6}}}
    on = merged(GATEWAY, known, valkey, local, {"replicas": 3, "orphanedJournals": [9]})
    off = merged(GATEWAY, known, {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}})
    scaled = merged(on, {"autoscaling": {"enabled": cluster.knows("autoscaling/v2")}})
    for values in (on, off, scaled):
        answer = dry_run(cluster, template("gateway", values, namespace="studio"))
        assert answer.returncode == 0, answer.stderr


def test_the_server_would_refuse_cards_whose_request_is_not_their_limit(cluster: ControlPlane, known: Values) -> None:
    deployment = only(template("engine", merged(ENGINE, known)), "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["resources"]["requests"]["metax-tech.com/gpu"] = "1"
    answer = dry_run(cluster, [deployment])
    assert answer.returncode != 0
    assert "metax-tech.com/gpu" in answer.stderr


@pytest.mark.parametrize("version", HELMS)
def test_an_upgrade_leaves_the_number_that_a_driver_has_set(cluster: ControlPlane, known: Values, version: str) -> None:
    """The fleet scales to four. A release without a driver, beside it, puts its own number back."""

    def replicas_after_an_upgrade(release: str, driver: str) -> int:
        values = merged(ENGINE, known, {"model": {"variant": release}, "driver": driver, "replicas": 2})
        chart = str(CHARTS / "engine")
        helm(cluster, version, "install", release, chart, "--namespace", "engines", values=values)
        name = deployment_name(values)
        cluster.succeed("kubectl", "scale", "deployment", name, "--replicas=4", "--namespace", "engines")
        changed = merged(values, {"engine": {"maxNumSeqs": 8}})
        # helm 4 applies on the server, where taking back what somebody else has set is a conflict.
        force = ("--force-conflicts",) if (version, driver) == ("helm", "none") else ()
        helm(cluster, version, "upgrade", release, chart, "--namespace", "engines", *force, values=changed)
        stored = cluster.object("deployment", name, "engines")
        assert "8" in stored["spec"]["template"]["spec"]["containers"][0]["args"]
        replicas: int = stored["spec"]["replicas"]
        return replicas

    assert replicas_after_an_upgrade(f"driven-{version}", "studio") == 4
    assert replicas_after_an_upgrade(f"owned-{version}", "none") == 2


def test_a_gateway_is_installed_upgraded_and_rolled_back(cluster: ControlPlane, known: Values) -> None:
    chart, where = str(CHARTS / "gateway"), ("--namespace", "studio")
    values = merged(GATEWAY, known)

    def level() -> str:
        return str(cluster.object("configmap", "studio-gateway", "studio")["data"]["STUDIO_LOG_LEVEL"])

    helm(cluster, "helm", "install", "studio", chart, *where, values=values)
    helm(
        cluster, "helm", "upgrade", "studio", chart, *where, values=merged(values, {"settings": {"log_level": "DEBUG"}})
    )
    assert level() == "DEBUG"
    cluster.succeed("helm", "rollback", "studio", "1", *where)
    assert level() == "INFO"
    cluster.succeed("helm", "uninstall", "studio", *where)
    assert cluster.run("kubectl", "get", "statefulset", "studio-gateway", *where).returncode != 0


def test_journals_of_gateways_that_are_no_more_are_found_and_shipped(cluster: ControlPlane, known: Values) -> None:
    """Three gateways become one. The test is the controller: it binds the claims and ends the Jobs that helm awaits."""
    chart, where = str(CHARTS / "gateway"), ("--namespace", "studio")
    three = merged(GATEWAY, known, {"replicas": 3, "secrets": {"valkey_url": {"name": "valkey"}}})
    helm(cluster, "helm", "install", "crowd", chart, *where, values=three)
    (template_,) = cluster.object("statefulset", "crowd-gateway", "studio")["spec"]["volumeClaimTemplates"]
    for number, phase in ((0, "Bound"), (1, "Bound"), (2, "Bound"), (7, "Pending")):
        name = f"journal-crowd-gateway-{number}"
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}}
        path = "/api/v1/namespaces/studio/persistentvolumeclaims"
        stored = cluster.ask("POST", path, claim | {"spec": template_["spec"]})
        cluster.ask("PUT", f"{path}/{name}/status", stored | {"status": {"phase": phase}})

    def rendered(*parts: Values) -> set[str]:
        arguments = ("upgrade", "crowd", chart, *where, "--dry-run=server", "--values", "-")
        said = cluster.succeed("helm3", *arguments, text=yaml.safe_dump(merged(three, *parts)))
        return set(re.findall(r"name: crowd-gateway-ship-(\d+)", said))

    assert rendered() == set()
    assert rendered({"replicas": 2}) == {"2"}
    assert rendered({"replicas": 2, "journal": {"shipOrphans": False}}) == set()
    assert rendered({"replicas": 2, "orphanedJournals": [2, 9]}) == {"2", "9"}

    one = yaml.safe_dump(merged(three, {"replicas": 1}))
    with ThreadPoolExecutor(1) as pool:
        upgrade = pool.submit(cluster.succeed, "helm", "upgrade", "crowd", chart, *where, "--values", "-", text=one)
        for number in (1, 2):
            path = f"/apis/batch/v1/namespaces/studio/jobs/crowd-gateway-ship-{number}"
            eventually(lambda path=path: upgrade.done() or cluster.has(path), f"helm has made the Job of {number}", 60)  # type: ignore[misc]
            ended = {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}
            cluster.ask("PUT", f"{path}/status", cluster.ask("GET", path) | {"status": ended})
        upgrade.result(timeout=60)
    claims = cluster.object("job", "crowd-gateway-ship-2", "studio")["spec"]["template"]["spec"]["volumes"]
    assert {"claimName": "journal-crowd-gateway-2"} in [one.get("persistentVolumeClaim") for one in claims]
    cluster.succeed("helm", "uninstall", "crowd", *where)


def test_weights_stay_when_a_release_is_removed(cluster: ControlPlane, known: Values) -> None:
    values = merged(ENGINE, known, {"model": {"variant": "kept"}})
    helm(cluster, "helm", "install", "kept", str(CHARTS / "engine"), "--namespace", "engines", values=values)
    cluster.succeed("helm", "uninstall", "kept", "--namespace", "engines")
    name = deployment_name(values)
    assert cluster.run("kubectl", "get", "deployment", name, "--namespace", "engines").returncode != 0
    claim = cluster.object("persistentvolumeclaim", f"{name}-models", "engines")
    assert claim["spec"]["resources"]["requests"]["storage"] == "200Gi"


def test_monitoring_is_installed_upgraded_and_rolled_back(cluster: ControlPlane) -> None:
    chart, where = str(CHARTS / "monitoring"), ("--namespace", "monitoring")
    values = merged(MONITORING, {"minKubeVersion": "0.0.0", "nodes": {"devicePlugin": {"enabled": True}}})
    helm(cluster, "helm", "install", "watch", chart, *where, values=values)
    rules = cluster.object("configmap", "watch-rules", "monitoring")["data"]
    assert rules["services.yaml"] == (CHARTS / "monitoring/files/rules/services.yaml").read_text()
    less = merged(values, {"grafana": {"enabled": False}, "nodes": {"devicePlugin": {"enabled": False}}})
    helm(cluster, "helm", "upgrade", "watch", chart, *where, values=less)
    plugin = ("kubectl", "get", "daemonset", "watch-device-plugin", "--namespace", "monitoring-nodes")
    assert cluster.run(*plugin).returncode != 0
    cluster.succeed("helm", "rollback", "watch", "1", *where)
    cluster.succeed(*plugin)
    cluster.succeed("helm", "uninstall", "watch", *where)
    claim = cluster.run("kubectl", "get", "daemonset", "--namespace", "monitoring-nodes")
    assert claim.stdout == ""
