"""The example site of `docs/installation.md`: what reads its files takes them, and the page says what it needs."""

from __future__ import annotations

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.engine_values import catalog_values
from studio.catalog.judged import Catalog
from studio.catalog.reading import read_catalog
from studio.cluster.card_holders import CONFIG_MAP
from studio.settings import REPOSITORY, Settings
from tests.k8s.custom_kinds import findings
from tests.k8s.rendering import CHARTS, EXAMPLE, Document, example, merged, release, umbrella
from tests.k8s.test_charts import VERSIONS, assert_restricted, judge, pods

PAGE = (REPOSITORY / "docs" / "installation.md").read_text()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The repository's catalog with the example's word for the site."""
    folder = tmp_path_factory.mktemp("site") / "catalog"
    shutil.copytree(REPOSITORY / "catalog", folder)
    shutil.copy(EXAMPLE / "two-nodes.yaml", folder / "sites")
    return read_catalog(folder, "two-nodes")


@pytest.fixture(scope="module")
def releases(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Document]]:
    """Everything that the page installs, by release."""
    engines = {
        variant: release(variant, CHARTS / "engine", merged(example("engines.yaml"), values), "engines")
        for variant, values in catalog_values(catalog, of_site=True).items()
    }
    return {
        "studio": release("studio", umbrella(tmp_path_factory.mktemp("umbrella")), example("studio.yaml"), "studio"),
        "watch": release("watch", CHARTS / "monitoring", example("monitoring.yaml"), "monitoring"),
        "training": release("training", CHARTS / "training", example("training.yaml"), "training"),
        **engines,
        "by hand": list(yaml.safe_load_all("\n---\n".join((EXAMPLE / name).read_text() for name in BY_HAND))),
    }


BY_HAND = ("namespaces.yaml", "migrate.yaml")


@pytest.fixture(scope="module")
def everything(releases: dict[str, list[Document]]) -> list[Document]:
    return [document for documents in releases.values() for document in documents]


def test_kubernetes_and_envoy_gateway_know_every_field(everything: list[Document], tmp_path: Path) -> None:
    custom = [one for one in everything if one["apiVersion"].startswith("gateway.")]
    assert len(custom) > 10
    assert [found for found in findings(custom) if found] == []
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(one for one in everything if one not in custom))
    judging = judge(VERSIONS[3], tmp_path / "all.yaml")  # the page's
    said, _ = judging.communicate()
    assert judging.returncode == 0, said
    assert f"v{VERSIONS[3].rpartition('.')[0]}." in PAGE


def test_no_volume_waits_for_a_storage_class_that_kubeadm_does_not_bring(everything: list[Document]) -> None:
    volumes = {
        (one["spec"]["claimRef"]["namespace"], one["spec"]["claimRef"]["name"]): one["spec"]
        for one in everything
        if one["kind"] == "PersistentVolume"
    }
    claims = dict(_claims(everything))
    assert claims.keys() == volumes.keys()
    assert len(claims) == 9
    for claim, spec in claims.items():
        volume = volumes[claim]
        assert spec["storageClassName"] == volume["storageClassName"] == ""
        assert spec["resources"]["requests"]["storage"] == volume["capacity"]["storage"]
        path = volume["local"]["path"]
        assert f"`{path}`" in PAGE or f"`{path.removesuffix('-1')}-0`, `-1`" in PAGE, f"{path} is not in the table"


def _claims(documents: list[Document]) -> Any:
    """Every claim that there will be, those of StatefulSets included."""
    for one in documents:
        if one["kind"] == "PersistentVolumeClaim":
            yield (one["metadata"]["namespace"], one["metadata"]["name"]), one["spec"]
        if one["kind"] == "StatefulSet":
            name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
            for claim in one["spec"].get("volumeClaimTemplates", ()):
                for number in range(one["spec"]["replicas"]):
                    yield (namespace, f"{claim['metadata']['name']}-{name}-{number}"), claim["spec"]


def test_each_namespace_is_made_with_pod_security_at_a_pinned_version(
    everything: list[Document], catalog: Catalog
) -> None:
    made = {one["metadata"]["name"]: one["metadata"]["labels"] for one in everything if one["kind"] == "Namespace"}
    assert {one["metadata"].get("namespace") for one in everything} - {None} == set(made)
    declared = catalog.site.cluster
    assert declared is not None
    for name, labels in made.items():
        level = "privileged" if name == "monitoring-nodes" else "restricted"
        assert labels["pod-security.kubernetes.io/enforce"] == level
        assert labels["pod-security.kubernetes.io/enforce-version"] == declared.pod_security_version


def test_migrations_run_restricted_and_where_the_database_lets_them_in(releases: dict[str, list[Document]]) -> None:
    (job,) = (one for one in releases["by hand"] if one["kind"] == "Job")
    (pod,) = pods([job])
    assert_restricted(pod)
    assert job["metadata"]["namespace"] == "studio"


def test_every_image_is_in_one_of_the_lists_of_the_signature_policy(everything: list[Document]) -> None:
    lists = example("studio.yaml")["signatures"]
    for pod in pods(everything):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            matching = [fnmatch(container["image"], one) for one in (*lists["repositories"], *lists["unsigned"])]
            assert sum(matching) == 1, container["image"]


def test_the_page_names_every_secret(everything: list[Document]) -> None:
    def named(value: Any) -> set[str]:
        if isinstance(value, list):
            return {name for one in value for name in named(one)}
        if not isinstance(value, dict):
            return set()
        here = {value[key]["name"] for key in ("secretKeyRef", "secretRef") if key in value}
        here |= {value["secret"]["secretName"]} if "secretName" in (value.get("secret") or {}) else set()
        return here | {name for one in value.values() for name in named(one)}

    secrets = {name for one in everything for name in named(one.get("spec", {}))}
    assert {name for name in secrets if f"`{name}`" not in PAGE} == set()
    assert "studio-postgres" in secrets


def test_settings_are_read_and_parts_find_each_other(
    releases: dict[str, list[Document]], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {
        one["metadata"]["name"]: one["data"]
        for documents in releases.values()
        for one in documents
        if one["kind"] == "ConfigMap" and "data" in one
    }
    for name, value in data["studio-dagster-settings"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (EXAMPLE / f"{settings.site}.yaml").is_file()
    assert settings.prometheus_url == "http://watch-prometheus.monitoring.svc:9090"
    services = {
        f"{one['metadata']['name']}.{one['metadata']['namespace']}.svc:{port['port']}"
        for documents in releases.values()
        for one in documents
        if one["kind"] == "Service"
        for port in one["spec"]["ports"]
    }
    assert str(settings.prometheus_url).removeprefix("http://") in services
    jobs = yaml.safe_load(data["watch-prometheus"]["prometheus.yaml"])["scrape_configs"]
    scraped = {
        f"{target['names'][0]}:{target['port']}": job["job_name"]
        for job in jobs
        for target in job.get("dns_sd_configs", ())
    }
    assert scraped.keys() <= services
    engines = {name for name in services if name.endswith("-pods.engines.svc:8000")}
    assert {target for target, job in scraped.items() if job == "studio-engine"} == engines
    named = {
        one["variant"]: (one["tier"], one["node"])
        for one in example("monitoring.yaml")["prometheus"]["targets"]["engines"]
    }
    tiers = {variant.id: variant.tier for model in catalog.models for variant in model.variants}
    assert named == {one.variant: (tiers[one.variant], "node-1") for one in catalog.site.deploy}
    assert len(engines) == len(catalog.site.deploy)


def test_the_fleet_may_tell_the_exporters_who_holds_cards(
    releases: dict[str, list[Document]], catalog: Catalog
) -> None:
    everything = [one for documents in releases.values() for one in documents]
    accounts = {
        (one["metadata"]["namespace"], one["metadata"]["name"]) for one in everything if one["kind"] == "ServiceAccount"
    }
    (bound,) = (one for one in everything if one["metadata"]["name"] == "watch-workloads" and "subjects" in one)
    (keeper,) = bound["subjects"]
    assert (keeper["namespace"], keeper["name"]) in accounts
    assert catalog.site.cluster is not None
    assert bound["metadata"]["namespace"] == catalog.site.cluster.nodes
    made = {
        (one["metadata"].get("namespace"), one["metadata"]["name"]) for one in everything if one["kind"] == "ConfigMap"
    }
    assert (catalog.site.cluster.nodes, CONFIG_MAP) in made


def test_what_trains_fits_the_quota_and_the_runs(catalog: Catalog) -> None:
    declared = catalog.site.cluster
    assert declared is not None
    assert declared.training is not None
    runs, quota = example("studio.yaml")["dagster"]["runs"], example("training.yaml")["quota"]
    assert runs["fineTunes"] * declared.training.cards == quota["cards"]


def test_the_page_and_argo_cd_name_files_that_there_are() -> None:
    named = set(re.findall(r"\bsite/([a-z-]+\.[a-z]+)", PAGE))
    named |= set(re.findall(r"\$site/([a-z-]+\.[a-z]+)", (REPOSITORY / "k8s/argocd/applications.yaml").read_text()))
    there = {path.name for path in EXAMPLE.iterdir()}
    assert named <= there
    assert named | {"two-nodes.yaml"} == there
