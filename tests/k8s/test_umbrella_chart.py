"""The umbrella: each part on and off, one set of names; on a real API server a release of all parts, one of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.control_plane import ControlPlane, assets, running
from tests.k8s.custom_kinds import findings
from tests.k8s.rendering import (
    CHARTS,
    DAGSTER,
    DATA,
    EDGE,
    ENGINE,
    GATEWAY,
    HELMS,
    MONITORING,
    STUDIO,
    VIEW,
    Document,
    Values,
    merged,
    run_tool,
    umbrella,
)
from tests.k8s.test_charts import VERSIONS, judge, modelled_findings

CUSTOM = ("gateway.networking.k8s.io/v1", "gateway.envoyproxy.io/v1alpha1")
WITHOUT_BUDGET: Values = {"podDisruptionBudget": {"enabled": False}}
PARTS = ("data", "gateway", "dagster", "edge", "monitoring")


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return umbrella(tmp_path_factory.mktemp("umbrella"))


def render(chart: Path, values: Values, *, release: str = "studio", helm: str = "helm") -> Any:
    """helm's answer."""
    arguments = ("template", release, str(chart), "--namespace", "studio", "--values", "-")
    return run_tool(helm, *arguments, text=yaml.safe_dump(merged(values)))


def documents(chart: Path, values: Values, helm: str = "helm") -> list[Document]:
    """The objects of the release."""
    answer = render(chart, values, helm=helm)
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.safe_load_all(answer.stdout) if document]


def parts_in(found: list[Document]) -> set[str]:
    """Which charts they come from."""
    return {document["metadata"]["labels"]["app.kubernetes.io/name"] for document in found}


def test_each_part_can_be_switched_off(chart: Path) -> None:
    everything = merged(STUDIO, {"parts": {"monitoring": True}})
    assert parts_in(documents(chart, everything)) == set(PARTS)
    assert parts_in(documents(chart, STUDIO)) == set(PARTS) - {"monitoring"}
    for part in PARTS:
        # What is off needs no values: neither its images nor its names.
        left = {name: values for name, values in everything.items() if name != part}
        off = {"parts": {"monitoring": part != "monitoring", part: False}}
        off["parts"] |= {"edge": False} if part == "gateway" else {}
        gone = {part, "edge"} if part == "gateway" else {part}
        assert parts_in(documents(chart, merged(left, off))) == set(PARTS) - gone


def test_both_helms_make_the_same_and_every_kubernetes_knows_each_field(chart: Path, tmp_path: Path) -> None:
    four, three = (documents(chart, STUDIO, helm) for helm in HELMS)
    assert four == three
    assert [found for found in findings([one for one in four if one["apiVersion"] in CUSTOM]) if found] == []
    built_in = [one for one in four if one["apiVersion"] not in CUSTOM]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(built_in))
    for judging in [judge(version, tmp_path / "all.yaml") for version in (VERSIONS[0], VERSIONS[-1])]:
        said, _ = judging.communicate()
        assert judging.returncode == 0, said


def test_the_parts_find_each_other_by_name(chart: Path) -> None:
    on = {"dagster": {"readOnly": VIEW}, "edge": {"finance": {"enabled": True, "host": "dagster.example"}}}
    found = documents(chart, merged(STUDIO, on, {"parts": {"monitoring": True}}))
    services = {one["metadata"]["name"]: one for one in found if one["kind"] == "Service"}
    for route in (one for one in found if one["kind"] == "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for target in rule.get("backendRefs", ()):
                ports = [port["port"] for port in services[target["name"]]["spec"]["ports"]]
                assert target["port"] in ports, target
    for settings in ("studio-gateway", "studio-dagster-settings"):
        config = next(one for one in found if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", settings))
        assert config["data"]["STUDIO_S3_ENDPOINT_URL"] == "http://studio-s3.studio.svc:8333"
    assert {"studio-s3", "studio-postgres", "studio-valkey"} <= services.keys()
    watching = next(
        one for one in found if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", "studio-prometheus")
    )
    jobs = {job["job_name"]: job for job in yaml.safe_load(watching["data"]["prometheus.yaml"])["scrape_configs"]}
    (gateways,) = jobs["studio-gateway"]["dns_sd_configs"]
    (name,) = gateways["names"]
    assert [port["port"] for port in services[name.removesuffix(".studio.svc")]["spec"]["ports"]] == [gateways["port"]]


@pytest.mark.parametrize(
    ("release", "change", "said"),
    [
        ("other", {}, "of a release called studio, not other"),
        ("studio", {"parts": {"gateway": False}}, "leads nowhere"),
        ("studio", {"edge": {"finance": {"enabled": True, "host": "a.example"}}}, "dagster.readOnly.enabled on"),
        ("studio", {"parts": {"konsole": True}}, "konsole"),
        ("studio", {"gateway": {"replica": 2}}, "replica"),
        ("studio", {"gateway": {"image": "registry.example/gateway:latest"}}, "image"),
    ],
)
def test_what_cannot_be_is_refused(chart: Path, release: str, change: Values, said: str) -> None:
    answer = render(chart, merged(STUDIO, change), release=release)
    assert answer.returncode != 0
    assert said in answer.stderr


def test_unsigned_images_can_be_refused(chart: Path) -> None:
    assert "kyverno.io/v1" not in {one["apiVersion"] for one in documents(chart, STUDIO)}
    key = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
    asked = {
        "enabled": True,
        "repositories": ["registry.example/studio/*"],
        "unsigned": ["registry.example/library/*"],
    }
    found = documents(chart, merged(STUDIO, {"signatures": asked | {"publicKey": key}}))
    policy = next(one for one in found if one["kind"] == "ClusterPolicy")
    wrong = deepcopy(policy)
    wrong["spec"]["rules"][0]["validate"]["failureAktion"] = "Enforce"
    of_right, of_wrong = modelled_findings([policy, wrong])
    assert of_right == ""
    assert "failureAktion" in of_wrong
    known, rule = policy["spec"]["rules"]
    # A pattern of Kyverno's: every image of every container is one of these.
    assert known["match"] == rule["match"]
    assert known["validate"]["failureAction"] == "Enforce"
    every = {"image": "registry.example/studio/* | registry.example/library/*"}
    kinds = ("containers", "=(initContainers)", "=(ephemeralContainers)")
    assert known["validate"]["pattern"] == {"spec": {kind: [every] for kind in kinds}}
    (images,) = rule["verifyImages"]
    assert (images["failureAction"], images["required"], policy["spec"]["failurePolicy"]) == ("Enforce", True, "Fail")
    assert images["attestors"] == [{"entries": [{"keys": {"publicKeys": key}}]}]
    assert "training" in rule["match"]["any"][0]["resources"]["namespaces"]
    for missing, said in (({}, "whose signature counts"), ({"publicKey": key, "repositories": []}, "whose images")):
        answer = render(chart, merged(STUDIO, {"signatures": asked | missing}))
        assert said in answer.stderr


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running(assets(), tmp_path_factory.mktemp("control-plane")) as plane:
        for namespace in ("studio", "engines", "training", "monitoring", "monitoring-nodes"):
            plane.succeed("kubectl", "create", "namespace", namespace)
        yield plane


@pytest.fixture(scope="module")
def envoy_gateway(plane: ControlPlane) -> None:
    """Its kinds, as far as a server must know them to keep objects; their fields are judged above."""
    kinds = {
        "gateway.networking.k8s.io/v1": ("GatewayClass", "Gateway", "HTTPRoute"),
        "gateway.envoyproxy.io/v1alpha1": ("ClientTrafficPolicy", "BackendTrafficPolicy", "SecurityPolicy"),
    }
    for group_version, names in kinds.items():
        group, version = group_version.split("/")
        for kind in names:
            plural = f"{kind.lower()}es" if kind.endswith("s") else f"{kind.lower()}s".replace("policys", "policies")
            schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            definition = {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.{group}"},
                "spec": {
                    "group": group,
                    "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
                    "scope": "Cluster" if kind == "GatewayClass" else "Namespaced",
                    "versions": [served],
                },
            }
            if group == "gateway.networking.k8s.io":
                approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"}
                definition["metadata"]["annotations"] = approved  # type: ignore[index]
            plane.succeed("kubectl", "create", "--filename", "-", text=json.dumps(definition))
            plane.succeed("kubectl", "wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=30s")


def known(plane: ControlPlane) -> dict[str, Any]:
    """Values without what an old server does not know."""
    old = {part: {"minKubeVersion": "0.0.0"} for part in ("data", "gateway", "dagster", "edge")}
    if plane.knows("autoscaling/v2"):
        return old
    return merged(old, {"data": {"backup": {"enabled": False}}, "gateway": WITHOUT_BUDGET})


def test_one_release_is_installed_upgraded_and_rolled_back(
    plane: ControlPlane, envoy_gateway: None, chart: Path
) -> None:
    values = merged(STUDIO, known(plane))

    def helm(verb: str, change: Values) -> None:
        arguments = (verb, "studio", str(chart), "--namespace", "studio", "--values", "-")
        plane.succeed("helm", *arguments, text=yaml.safe_dump(merged(values, change)))

    def state() -> tuple[Any, ...]:
        level = plane.object("configmap", "studio-gateway", "studio")["data"]["STUDIO_LOG_LEVEL"]
        postgres = plane.object("statefulset", "studio-postgres", "studio")
        arguments = postgres["spec"]["template"]["spec"]["containers"][0]["args"]
        policy = plane.object("backendtrafficpolicy", "studio-keys-requests", "studio")
        return level, arguments[1], policy["spec"]["rateLimit"]["global"]["rules"][0]["limit"]["requests"]

    helm("install", {})
    before = state()
    helm(
        "upgrade",
        {
            "gateway": {"settings": {"log_level": "DEBUG"}},
            "data": {"postgres": {"maxConnections": 300}, "valkey": {"enabled": False}},
            "edge": {"limits": {"requests": 10}},
        },
    )
    assert state() == ("DEBUG", "-cmax_connections=300", 10)
    assert plane.run("kubectl", "get", "deployment", "studio-valkey", "--namespace", "studio").returncode != 0
    plane.succeed("helm", "rollback", "studio", "1", "--namespace", "studio")
    assert state() == before == ("INFO", "-cmax_connections=200", 6000)
    plane.object("deployment", "studio-valkey", "studio")
    plane.succeed("helm", "uninstall", "studio", "--namespace", "studio")
    assert plane.run("kubectl", "get", "statefulset", "studio-postgres", "--namespace", "studio").returncode != 0
    for claim in ("studio-postgres", "studio-s3"):
        plane.object("persistentvolumeclaim", claim, "studio")  # what they hold stays


# Each chart by itself: its namespace, its values, what an upgrade changes, and the object and field where that is seen.
ALONE: dict[str, tuple[str, Values, Values, tuple[str, str, str]]] = {
    "engine": ("engines", ENGINE, {"replicas": 0}, ("deployment", "engine-qwen3-32b-fast-8eb3c9", "{.spec.replicas}")),
    "gateway": (
        *("studio", GATEWAY, {"settings": {"cross_check_share": 0}}),
        ("configmap", "alone-gateway", "{.data.STUDIO_CROSS_CHECK_SHARE}"),
    ),
    "dagster": (
        *("studio", DAGSTER, {"webserver": {"callers": ["desk"]}, "runAsUser": 10002}),
        ("deployment", "alone-dagster-web", "{.spec.template.spec.securityContext.runAsUser}"),
    ),
    "data": (
        *("studio", DATA, {"postgres": {"maxConnections": 300}}),
        ("statefulset", "alone-postgres", "{.spec.template.spec.containers[0].args[1]}"),
    ),
    "edge": (
        *("studio", EDGE, {"host": "chat.example"}),
        ("httproute", "alone-keys-requests", "{.spec.hostnames[0]}"),
    ),
    "monitoring": (
        *("monitoring", MONITORING, {"prometheus": {"cpu": "3"}}),
        ("statefulset", "alone-prometheus", "{.spec.template.spec.containers[0].resources.limits.cpu}"),
    ),
    "training": (
        "training",
        {"weights": {"claim": "kept"}},
        {"quota": {"pods": 0}},
        ("resourcequota", "training", "{.spec.hard.pods}"),
    ),
}


@pytest.mark.parametrize("part", ALONE)
def test_each_part_alone_is_installed_upgraded_and_rolled_back_with_helm_3(
    plane: ControlPlane, envoy_gateway: None, part: str
) -> None:
    """Helm 4 does the same here and in test_control_plane.py; what Helm 3 renders is compared in test_charts.py."""
    namespace, values, change, (kind, name, path) = ALONE[part]
    budget = WITHOUT_BUDGET if part == "engine" else {}
    old: Values = known(plane).get(part) or merged({"minKubeVersion": "0.0.0"}, budget)
    where = ("--namespace", namespace)

    def helm(verb: str, *more: Values) -> None:
        text = yaml.safe_dump(merged(values, old, *more))
        plane.succeed("helm3", verb, "alone", str(CHARTS / part), *where, "--values", "-", text=text)

    def seen() -> str:
        return plane.succeed("kubectl", "get", kind, name, *where, "--output", f"jsonpath={path}")

    helm("install")
    before = seen()
    helm("upgrade", change)
    assert seen() != before
    plane.succeed("helm3", "rollback", "alone", "1", *where)
    assert seen() == before
    plane.succeed("helm3", "uninstall", "alone", *where)
    assert plane.run("kubectl", "get", kind, name, *where).returncode != 0


def test_training_is_installed_upgraded_and_rolled_back(plane: ControlPlane) -> None:
    chart = str(CHARTS / "training")

    def helm(verb: str, cards: int) -> None:
        values = {"minKubeVersion": "0.0.0", "quota": {"cards": cards}}
        arguments = (verb, "training", chart, "--namespace", "training", "--values", "-")
        plane.succeed("helm", *arguments, text=yaml.safe_dump(values))

    def cards() -> str:
        quota = plane.object("resourcequota", "training", "training")
        return str(quota["spec"]["hard"]["requests.metax-tech.com/gpu"])

    helm("install", 2)
    assert plane.object("priorityclass", "studio-training", "")["value"] == -1000
    helm("upgrade", 0)
    assert cards() == "0", "zero can be said"
    plane.succeed("helm", "rollback", "training", "1", "--namespace", "training")
    assert cards() == "2"
    plane.succeed("helm", "uninstall", "training", "--namespace", "training")
    plane.object("persistentvolumeclaim", "training-weights", "training")
