"""Each alert fires in promtool's own test, speaks of metrics that exist, and leads to a section of the runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.exporter import metrics
from serving.metrics import Metrics
from serving.state_metrics.readings import METRICS
from studio.settings import REPOSITORY
from tests.k8s.prometheus import promtool

RULES = REPOSITORY / "k8s/monitoring/rules"
TESTS = Path(__file__).parent
OF_CARDS = {metric.name: metric for metric in (*metrics.OF_A_CARD, *metrics.OF_THE_EXPORTER)}
OF_STATE = {"studio_state_up", "studio_state_read_seconds", *METRICS}
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
OF_GATEWAYS = {family.name + suffix for family in Metrics().registry.collect() for suffix in _SUFFIXES[family.type]}
# What Prometheus adds to each series, and what our own tables have. vLLM's have `model_name`.
LABELS = {
    *("instance", "job", "model", "variant", "tier", "status", "kind", "state", "le"),
    *(*metrics.CARD_LABELS, *(label for metric in OF_CARDS.values() for label in metric.labels)),
}


def recorded() -> set[str]:
    files = (yaml.safe_load(path.read_text())["groups"] for path in RULES.glob("*.yaml"))
    return {rule["record"] for groups in files for group in groups for rule in group["rules"] if "record" in rule}


def alerts() -> list[dict[str, Any]]:
    groups = (yaml.safe_load(path.read_text())["groups"] for path in sorted(RULES.glob("*.yaml")))
    return [rule for file in groups for group in file for rule in group["rules"] if "alert" in rule]


def anchors() -> set[str]:
    text = (REPOSITORY / "docs/runbook.md").read_text()
    return {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_names_metrics_that_exist_and_a_section_of_the_runbook(alert: dict[str, Any]) -> None:
    used = set(re.findall(r"\b(?:studio|vllm)[_:][\w:]+", alert["expr"]))
    own = {name for name in used if not name.startswith("vllm:")}  # the dashboards' test has those
    assert own <= OF_CARDS.keys() | OF_STATE | OF_GATEWAYS | recorded()
    assert used or re.search(r"\bup\{job=", alert["expr"])  # which Prometheus makes
    assert set(re.findall(r"(\w+)=~?\"", alert["expr"])) <= LABELS
    page, anchor = alert["annotations"]["runbook_url"].split("#")
    assert page == "docs/runbook.md"
    assert anchor == alert["alert"].lower()
    assert anchor in anchors()
    assert alert["labels"]["severity"] in {"page", "ticket"}


def test_every_alert_is_seen_firing_and_quiet() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for path in TESTS.glob("*.yaml"):
        for scene in yaml.safe_load(path.read_text())["tests"]:
            for case in scene.get("alert_rule_test", ()):
                (fires if case.get("exp_alerts") else quiet).add(case["alertname"])
    names = {alert["alert"] for alert in alerts()}
    assert fires == names
    assert quiet == names


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_prometheus_accepts_the_rules_and_they_do_what_their_tests_say(path: Path) -> None:
    for arguments in (["check", "rules", "--lint-fatal", str(path)], ["test", "rules", str(TESTS / path.name)]):
        ended = subprocess.run([promtool(), *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
