"""Every query of every dashboard, and all that an alert looks at, on a real Prometheus that scrapes real services."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s import dashboards
from serving.state_metrics.readings import METRICS
from studio.settings import REPOSITORY
from tests.k8s.monitoring.installation import Installation, running
from tests.k8s.prometheus import Prometheus, prometheus
from tests.k8s.rendering import MONITORING, template
from tests.local.eventually import eventually
from tests.server import TestServer

RULES = sorted((REPOSITORY / "k8s/monitoring/rules").glob("*.yaml"))
BOARDS = list(dashboards.definitions())
SELECTOR = re.compile(r"\b((?:studio|vllm)[_:][\w:]+|up)\b(?:\{([^}]*)\})?")


@pytest.fixture(scope="module")
def installation(server: TestServer, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One for all tests here."""
    with running(server, library, tmp_path_factory.mktemp("installation")) as everything:
        yield everything


@pytest.fixture(scope="module")
def watched(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen every service at work."""
    documents = template("monitoring", MONITORING, namespace="monitoring")
    (config,) = (one["data"]["prometheus.yaml"] for one in documents if "prometheus.yaml" in one.get("data", {}))
    (engines,) = (job for job in yaml.safe_load(config)["scrape_configs"] if job["job_name"] == "studio-engine")
    name, rules = engines["dns_sd_configs"][0]["names"][0], engines["relabel_configs"]
    with prometheus(
        tmp_path_factory.mktemp("prometheus"), RULES, installation.targets, {"studio-engine": (name, rules)}
    ) as server:
        yield server


def as_asked(expression: str) -> str:
    """As Grafana would send it, with every variable at All."""
    return re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", "30s"))


def alerts() -> list[dict[str, Any]]:
    files = (yaml.safe_load(path.read_text())["groups"] for path in RULES)
    return [rule for groups in files for group in groups for rule in group["rules"]]


def looked_at(rule: dict[str, Any]) -> list[str]:
    """The series that a rule speaks of: by name, with every label that it names present, whatever its value."""
    found = []
    for name, matchers in SELECTOR.findall(rule["expr"]):
        labels = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers)
        present = ", ".join(f"{label}!=''" for label in labels)
        found.append(f"{name}{{{present}}}" if labels else name)
    return found


def test_every_query_returns_data(installation: Installation, watched: Prometheus) -> None:
    wanted = {(board["uid"], panel, as_asked(expr)) for board in BOARDS for panel, expr in dashboards.queries(board)}
    wanted |= {("rules", str(rule.get("alert") or rule["record"]), of) for rule in alerts() for of in looked_at(rule)}
    silent = set(wanted)

    def all_speak() -> bool:
        installation.is_used()
        silent.difference_update(
            {one for one in silent if any(math.isfinite(value) for _, value in watched.query(one[2]))}
        )
        return not silent

    try:
        eventually(all_speak, "every query has data", 60)
    except AssertionError:
        pytest.fail("no data:\n" + "\n".join(f"{uid}, {title}: {expr}" for uid, title, expr in sorted(silent)))


def test_an_engines_metrics_say_variant_tier_and_node_beside_its_own_name(watched: Prometheus) -> None:
    """By the chart's own rules; only how the address is found differs."""
    labels = 'job="studio-engine", model_name!="", variant="e-fast", tier="fast", node="node-9"'
    eventually(lambda: bool(watched.query(f"vllm:num_requests_running{{{labels}}}")), "an engine was scraped")


def test_a_metric_that_nobody_exports_would_be_seen(watched: Prometheus) -> None:
    assert watched.query("studio_of_nobody") == []
    assert looked_at({"expr": 'studio_a{x="y", z=~"w"} > 5 and vllm:b == 1'}) == ["studio_a{x!='', z!=''}", "vllm:b"]


def test_all_of_the_state_is_shown_and_each_once(installation: Installation) -> None:
    text = installation.state.exposition()
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {line.split("{")[0].split(" ")[0] for line in samples} >= METRICS.keys()
    series = [line.rsplit(" ", 1)[0] for line in samples]
    assert len(series) == len(set(series))


def test_the_page_lists_every_metric_of_the_state() -> None:
    page = (REPOSITORY / "docs/monitoring.md").read_text()
    listed = set(re.findall(r"^\| `(studio_\w+)` \|", page, re.MULTILINE))
    assert listed == METRICS.keys() | {"studio_state_up", "studio_state_read_seconds"}
    for words, labels in METRICS.values():
        assert f"| {', '.join(f'`{label}`' for label in labels)} | {words} |" in page


def test_the_chart_holds_what_the_definitions_say() -> None:
    written = {path: path.read_text() for path in dashboards.FILES.rglob("*.*")}
    assert written == dashboards.files(), "run `python -m k8s.dashboards`"


def test_boards_have_stable_names_and_panels_that_do_not_overlap() -> None:
    assert {board["uid"] for board in BOARDS} == {
        "studio-batches", "studio-fleet", "studio-gpu", "studio-money", "studio-serving", "studio-tenants",
    }  # fmt: skip
    for definition in BOARDS:
        panels = dashboards.dashboard(definition)["panels"]
        cells: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not cells & own, panel["title"]
            cells |= own
        assert len({panel["id"] for panel in panels}) == len(panels)


def test_names_of_the_engines_are_vllms_own() -> None:
    """The stub stands for vLLM: what it shows, and what dashboards ask for, must be in vLLM's source."""
    source = REPOSITORY / ".venv-engine/lib/python3.11/site-packages/vllm/v1/metrics/loggers.py"
    if not source.exists():
        pytest.skip("vLLM is not installed here: `make install` brings it")
    known = set(re.findall(r'name="(vllm:\w+)"', source.read_text()))
    texts = [expr for board in BOARDS for _, expr in dashboards.queries(board)] + [rule["expr"] for rule in alerts()]
    asked = {name.removesuffix("_total") for text in texts for name in re.findall(r"vllm:\w+", text)}
    assert asked
    assert asked <= known
