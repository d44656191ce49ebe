"""Every query of every dashboard, and all that an alert looks at, on a real Prometheus that scrapes real services."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

import studio.prometheus
from billing import energy
from k8s import dashboards
from serving.state_metrics.readings import METRICS
from studio import clock
from studio.settings import REPOSITORY
from tests.k8s.monitoring.installation import Installation, running
from tests.k8s.prometheus import Prometheus, prometheus
from tests.k8s.rendering import MONITORING, template
from tests.local.eventually import eventually
from tests.server import TestServer
from tests.serving.gateway_process import CHAT

RULES = sorted((REPOSITORY / "k8s/monitoring/rules").glob("*.yaml"))
BOARDS = list(dashboards.definitions())
# Ids of Grafana's own list (packages/grafana-data/src/valueFormats/categories.ts) that mean what our metrics are in.
UNITS = {
    *("short", "none", "percentunit", "s", "ms", "reqps", "bytes", "Bps", "watt", "watth", "kwatth", "celsius"),
    "currencyEUR",
}
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
    """As Grafana would send it with a value chosen for every variable: `All` would hide that a series lacks a label."""
    return re.sub(r"\$\w+", ".+", expression.replace("$__rate_interval", "30s"))


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
    """Each of them, without exception: a panel that may be empty would not be missed when it breaks.

    And with the labels that its legend names.
    """
    wanted = {
        (board["uid"], panel, as_asked(expr), legend)
        for board in BOARDS
        for panel, expr, legend in dashboards.queries(board)
    }
    wanted |= {
        ("rules", str(rule.get("alert") or rule["record"]), of, "") for rule in alerts() for of in looked_at(rule)
    }
    silent = set(wanted)

    def speaks(expr: str, legend: str) -> bool:
        labels = set(re.findall(r"{{(\w+)}}", legend))
        return any(math.isfinite(value) and labels <= series.keys() for series, value in watched.query(expr))

    def all_speak() -> bool:
        installation.is_used()
        silent.difference_update({one for one in silent if speaks(*one[2:])})
        return not silent

    try:
        eventually(all_speak, "every query has data", 60)
    except AssertionError:
        pytest.fail("no data:\n" + "\n".join(f"{uid}, {title}: {expr}" for uid, title, expr, _ in sorted(silent)))


def test_every_rule_can_be_evaluated(installation: Installation, watched: Prometheus) -> None:
    """On these very series: one whose sides do not match one to one is accepted, and fails only when it meets them."""
    source, moments = studio.prometheus.Prometheus(watched.url), [clock.now()]

    def all_are_seen() -> bool:
        moments.append(clock.now())
        return len(source.query("up == 1", moments[-1])) == len(installation.targets)

    eventually(all_are_seen, "a moment at which every service was scraped")
    for rule in alerts():
        source.query(rule["expr"], moments[-1])  # or PrometheusUnanswered, with the expression


def test_every_variable_has_values(watched: Prometheus) -> None:
    for board in BOARDS:
        for name, query in board.get("variables", {}).items():
            (selector, label), *more = re.findall(r"^label_values\((.+), (\w+)\)$", query)
            assert (label, more) == (name, [])
            eventually(lambda: any(watched.label_values(selector, label)), f"{board['uid']}: ${name}")  # noqa: B023 (called here)


def test_a_sum_with_a_part_that_nobody_measured_is_no_figure(watched: Prometheus) -> None:
    """The tables of the board of costs, in numbers: NaN is shown as `not measured`."""

    def of(metric: str, by: str) -> dict[str, float]:
        return {labels[by]: value for labels, value in watched.query(f"sum by ({by}) ({metric})")}

    eventually(lambda: len(of("studio_margin_kwh", "tier")) == 2, "both ran")
    for metric in ("studio_margin_kwh", "studio_margin_cost_eur", "studio_margin"):
        for by, measured, not_measured in (
            ("tenant", "acme", "(nobody)"), ("model", CHAT, "qwen3-32b"), ("tier", "base", "fast"),
        ):  # fmt: skip
            values = of(metric, by)
            assert values[measured] > 0
            assert math.isnan(values[not_measured])
        assert math.isnan(watched.query(f"sum({metric})")[0][1])
    assert of("studio_margin_revenue", "tier") == {"base": 5, "fast": 0}


def test_the_asset_of_energy_finds_cards_and_holders_by_the_exporters_own_names(
    installation: Installation, watched: Prometheus
) -> None:
    """And an hour of which this Prometheus saw the end alone is not measured, whatever the counters say."""

    def seen() -> dict[str, tuple[str | None, Decimal | None]]:
        cards = energy.read_hour(source, clock.now() - energy.HOUR, {CHAT})
        return {card.card: (card.variant_id, card.joules) for card in cards}

    source = studio.prometheus.Prometheus(watched.url)
    held, free = (CHAT, None), (None, None)
    eventually(lambda: seen().get("GPU-0000") == held, "who holds the first card")
    assert seen() == {"GPU-0000": held, "GPU-0001": held, "GPU-0002": free, "GPU-0003": free}
    assert installation.node.cards[0].present


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


def test_boards_have_stable_names_and_a_line_each_on_their_page() -> None:
    uids = {board["uid"] for board in BOARDS}
    assert uids == {
        "studio-batches", "studio-costs", "studio-fleet", "studio-gpu", "studio-money", "studio-serving",
        "studio-tenants",
    }  # fmt: skip
    page = (REPOSITORY / "docs/monitoring.md").read_text()
    listed = re.findall(r"^\| (.+?) \| `(studio-\w+)` \| .{20,} \|$", page, re.MULTILINE)
    assert sorted(listed) == sorted((board["title"], board["uid"]) for board in BOARDS)


@pytest.mark.parametrize("definition", BOARDS, ids=lambda board: str(board["uid"]))
def test_grafana_finds_what_a_board_names(definition: dict[str, Any]) -> None:
    """Variables that are declared, one data source that is chosen and not written down, units that Grafana has."""
    board = dashboards.dashboard(definition)
    chosen, *variables = board["templating"]["list"]
    assert (chosen["name"], chosen["type"], chosen["query"]) == ("datasource", "datasource", "prometheus")
    text = json.dumps(board)
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"${datasource}", definition["uid"]}
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    named = {name for target in targets for name in re.findall(r"\$(\w+)", target["expr"])}
    assert named - {"__rate_interval"} == {variable["name"] for variable in variables}
    assert set(re.findall(r'"unit": "([^"]+)"', text)) <= UNITS
    for panel in board["panels"]:
        for override in panel.get("fieldConfig", {}).get("overrides", ()):
            renamed = panel["transformations"][1]["options"]["renameByName"]
            assert override["matcher"]["options"] in renamed.values()


def test_panels_do_not_overlap() -> None:
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
    texts = [expr for board in BOARDS for _, expr, _ in dashboards.queries(board)] + [rule["expr"] for rule in alerts()]
    asked = {name.removesuffix("_total") for text in texts for name in re.findall(r"vllm:\w+", text)}
    assert asked
    assert asked <= known
    assert 'labelnames = ["model_name", "engine"]' in source.read_text()  # beside which ours stand
