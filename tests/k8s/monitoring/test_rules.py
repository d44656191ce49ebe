"""Each alert fires in promtool's own test, speaks of metrics that exist, and leads to a section of the runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.exporter import metrics
from studio.settings import REPOSITORY
from tests.k8s.prometheus import promtool

RULES = REPOSITORY / "k8s/monitoring/rules"
TESTS = Path(__file__).parent
KNOWN = {metric.name: metric for metric in (*metrics.OF_A_CARD, *metrics.OF_THE_EXPORTER)}
# What Prometheus adds to each series, and what our own table has.
LABELS = {"instance", "job", *metrics.CARD_LABELS, *(label for metric in KNOWN.values() for label in metric.labels)}


def alerts() -> list[dict[str, Any]]:
    groups = (yaml.safe_load(path.read_text())["groups"] for path in sorted(RULES.glob("*.yaml")))
    return [rule for file in groups for group in file for rule in group["rules"] if "alert" in rule]


def anchors() -> set[str]:
    text = (REPOSITORY / "docs/runbook.md").read_text()
    return {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_names_metrics_that_exist_and_a_section_of_the_runbook(alert: dict[str, Any]) -> None:
    used = set(re.findall(r"\bstudio_\w+", alert["expr"]))
    assert used <= KNOWN.keys()
    assert used or alert["alert"] == "ExporterDown"  # `up`, which Prometheus makes
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
