"""The charts on a real Kubernetes API server: it takes every object, and a release leaves a driver's number alone.

Needs `KUBEBUILDER_ASSETS`; without it these tests say that they were not run (docs/kubernetes.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from k8s.engine_values import VALUES
from tests.k8s.control_plane import ControlPlane, assets, running
from tests.k8s.rendering import CHARTS, ENGINE, GATEWAY, HELMS, MONITORING, Document, Values, merged, only, template

NAMESPACES = ("engines", "studio", "monitoring", "monitoring-nodes")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server with the namespaces of the platform."""
    with running(assets(), tmp_path_factory.mktemp("control-plane")) as plane:
        for namespace in NAMESPACES:
            plane.succeed("kubectl", "create", "namespace", namespace)
        yield plane


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
