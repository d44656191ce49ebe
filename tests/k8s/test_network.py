"""The network policies of all parts together: who must reach whom, and who must not, on both sides of each connection.

Each chart's policies are right by themselves in its own tests; here stands what only shows between them.
"""

from __future__ import annotations

from uuid import UUID

import pytest
import yaml

from k8s.engine_values import VALUES
from studio.catalog.declaration import DeclaredCluster
from studio.cluster.tenant_objects import PART_OF, ClusterTenant, tenant_objects
from tests.k8s.network import WORLD, Place, named, passes, pods_of
from tests.k8s.rendering import (
    CHARTS,
    ENGINE,
    MONITORING,
    PASSTHROUGH,
    STUDIO,
    VIEW,
    Document,
    Values,
    example,
    merged,
    release,
    template,
    umbrella,
)

QWEN: Values = yaml.safe_load((VALUES / "qwen3-32b.yaml").read_text())
CLUSTER = DeclaredCluster.model_validate(
    {
        "gateway": {"namespace": "studio", "port": 8080},
        "s3": {"namespace": "studio", "port": 8333},
    }
)
DAGSTER = ("dagster/code", "dagster/run", "dagster/daemon", "dagster/web", "dagster/view")
SCRAPED = (
    *(("gateway", 8081), ("engine", 8000), ("passthrough", 8000), ("monitoring/state", 9401)),
    *(("monitoring/exporter", 9400), ("monitoring/alertmanager", 9093)),
)
STORES = (("data/postgres", 5432), ("data/s3", 8333))
# Caller, callee and the port of the callee's pod.
MUST: tuple[tuple[str, str, int], ...] = (
    ("envoy", "gateway", 8080),
    ("envoy", "dagster/view", 4180),
    ("tenant", "gateway", 8080),
    ("tenant", "data/s3", 8333),
    *(("gateway", callee, port) for callee, port in (*STORES, ("data/valkey", 6379))),
    *(("gateway", engine, 8000) for engine in ("engine", "passthrough")),
    ("gateway-shipper", "data/postgres", 5432),
    *((part, "data/postgres", 5432) for part in DAGSTER),
    *((part, "dagster/code", 4000) for part in ("dagster/daemon", "dagster/web", "dagster/view")),
    *((part, "data/s3", 8333) for part in ("dagster/code", "dagster/run")),
    *(("dagster/run", callee, port) for callee, port in (("gateway", 8080), ("engine", 8000), ("passthrough", 8000))),
    ("dagster/run", "monitoring/prometheus", 9090),
    *(("monitoring/prometheus", callee, port) for callee, port in SCRAPED),
    *(("monitoring/grafana", f"monitoring/{of}", port) for of, port in (("prometheus", 9090), ("loki", 3100))),
    ("monitoring/state", "data/postgres", 5432),
    ("monitoring/logs", "monitoring/loki", 3100),
    *((engine, "data/s3", 8333) for engine in ("engine", "passthrough")),
    ("fine-tune", "data/s3", 8333),
    *((job, callee, port) for job in ("data/backup", "data/drill") for callee, port in STORES),
)  # fmt: skip
MUST_NOT: tuple[tuple[str, str, int], ...] = (
    *(("tenant", callee, port) for callee, port in (("data/postgres", 5432), ("data/valkey", 6379), ("gateway", 8081))),
    *(("tenant", callee, port) for callee, port in (("engine", 8000), ("dagster/web", 3000), ("dagster/code", 4000))),
    *(("tenant", callee, port) for callee, port in (("monitoring/prometheus", 9090), ("monitoring/loki", 3100))),
    ("tenant", "another tenant", 8080),
    *(("envoy", callee, port) for callee, port in (("gateway", 8081), ("dagster/web", 3000), ("dagster/view", 3000))),
    *(("envoy", callee, port) for callee, port in (("data/postgres", 5432), ("data/s3", 8333), ("engine", 8000))),
    *((caller, "data/postgres", 5432) for caller in ("engine", "fine-tune", "monitoring/grafana", "monitoring/loki")),
    *((caller, "gateway", 8080) for caller in ("engine", "fine-tune", "monitoring/grafana")),
    *(("gateway", callee, port) for callee, port in (("dagster/web", 3000), ("dagster/code", 4000))),
    *((caller, "data/valkey", 6379) for caller in ("monitoring/state", "engine", "fine-tune", *DAGSTER)),
    ("engine", "passthrough", 8000),
    ("monitoring/exporter", "data/postgres", 5432),
    ("monitoring/logs", "monitoring/prometheus", 9090),
)
# Dagster's pods with a token go to an API server that may be anywhere on this port, unless `apiServerCidrs` says where.
REACH_THE_WORLD = {*DAGSTER, "monitoring/alertmanager", "monitoring/prometheus", "monitoring/loki"}


class Site:
    """All pods that there are, by their part, and all policies."""

    def __init__(self, documents: list[Document], *, names_its_api_server: bool) -> None:
        # Where the API server is named, Dagster's pods reach the world because the site says so, and the gateway, too.
        self.also_reach_the_world = {"gateway", "gateway-shipper"} if names_its_api_server else set()
        self.policies = [one for one in documents if one["kind"] == "NetworkPolicy"]
        tenant_labels = {
            one["metadata"]["name"]: one["metadata"]["labels"] for one in documents if one["kind"] == "Namespace"
        }
        self.places: dict[str, Place] = {}
        for pod in pods_of(documents, tenant_labels):
            name, component = pod.labels["app.kubernetes.io/name"], pod.labels.get("app.kubernetes.io/component")
            part = "passthrough" if pod.namespace == "studio-passthrough" else name
            self.places[f"{part}/{component}" if component else part] = pod
        self.ours = dict(self.places)
        code = self.places["dagster/code"]
        self.ours["dagster/run"] = Place(
            code.namespace,
            {**code.labels, "app.kubernetes.io/component": "run"},  # as test_dagster_chart.py finds them on a Job
            namespace_labels=code.namespace_labels,
        )
        self.ours["fine-tune"] = Place(
            "training", {**PART_OF, "app.kubernetes.io/name": "fine-tune"}, {}, named("training")
        )
        self.places |= self.ours
        for name, namespace in (("tenant", "tenant-acme"), ("another tenant", "tenant-globex")):
            labels = named(namespace) | tenant_labels[namespace]
            self.places[name] = Place(namespace, {"app": "anything"}, {"http": 8080}, labels)
        for name, namespace in (("envoy", "envoy-gateway-system"), ("stranger", "default"), ("dns", "kube-system")):
            self.places[name] = Place(namespace, {"k8s-app": name}, {}, named(namespace))

    def here(self, table: tuple[tuple[str, str, int], ...]) -> list[tuple[str, str, int]]:
        """The rows whose parts this site has: passthrough is a stopgap."""
        gone = {"passthrough"} - self.places.keys()
        return [row for row in table if not gone & {row[0], row[1]}]

    def passes(
        self, caller: str, callee: str | Place, port: int, protocol: str = "TCP", *, blocks_reach_pods: bool
    ) -> bool:
        """Whether the connection comes about."""
        there = callee if isinstance(callee, Place) else self.places[callee]
        return passes(self.policies, self.places[caller], there, port, protocol, blocks_reach_pods=blocks_reach_pods)


LAYOUTS = ("monitoring apart", "everything in one release", "the example site")


@pytest.fixture(scope="module", params=LAYOUTS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Both ways in which monitoring can be installed, with the charts' own values; and the example's."""
    shown = request.param == LAYOUTS[2]
    together = request.param == LAYOUTS[1]
    values = merged(
        example("studio.yaml") if shown else merged(STUDIO, {"dagster": {"readOnly": VIEW}}),
        {"parts": {"monitoring": together}, "gateway": {"orphanedJournals": [9]}},
        {"edge": {"finance": {"enabled": True, "host": "dagster.example"}}},
    )
    watching = example("monitoring.yaml") if shown else MONITORING
    engine = merged(example("engines.yaml"), QWEN) if shown else ENGINE
    studio = umbrella(tmp_path_factory.mktemp("network"))
    tenants = [ClusterTenant(UUID(int=number), slug) for number, slug in enumerate(("acme", "globex"))]
    return Site(
        [
            *release("studio", studio, values, "studio"),
            *(() if together else release("watch", CHARTS / "monitoring", watching, "monitoring")),
            *template("engine", engine),
            *(() if shown else template("engine", merged(ENGINE, PASSTHROUGH), namespace="studio-passthrough")),
            *template("training", example("training.yaml") if shown else {}, namespace="training"),
            *(one for tenant in tenants for one in tenant_objects(tenant, CLUSTER)),
        ],
        names_its_api_server=shown,
    )


def test_who_must_reach_whom_does(site: Site) -> None:
    assert [one for one in site.here(MUST) if not site.passes(*one, blocks_reach_pods=False)] == []


def test_the_edge_counts_where_the_site_says_so(site: Site, request: pytest.FixtureRequest) -> None:
    shown = LAYOUTS[2] in request.node.name
    assert site.passes("envoy", "data/valkey", 6379, blocks_reach_pods=True) == shown


def test_names_are_found_from_everywhere(site: Site) -> None:
    # What answers alone asks for no name.
    silent = {"data/postgres", "data/s3", "data/valkey"}
    for protocol in ("UDP", "TCP"):
        deaf = {one for one in site.ours if not site.passes(one, "dns", 53, protocol, blocks_reach_pods=False)}
        assert deaf == silent


def test_who_must_not_reach_whom_does_not(site: Site) -> None:
    assert [one for one in site.here(MUST_NOT) if site.passes(*one, blocks_reach_pods=True)] == []


def test_nobody_else_reaches_anything(site: Site) -> None:
    for name, pod in site.ours.items():
        for port in pod.ports.values():
            for caller in ("stranger", "dns"):
                assert not site.passes(caller, name, port, blocks_reach_pods=True), (caller, name, port)


def test_who_reaches_the_world_is_written_down(site: Site) -> None:
    reaching = {name for name in site.ours if site.passes(name, WORLD, 443, blocks_reach_pods=True)}
    assert reaching == REACH_THE_WORLD | site.also_reach_the_world
