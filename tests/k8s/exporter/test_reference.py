"""The page of the exporter lists every metric and every setting, as the code has them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from k8s.device_plugin import settings as device_plugin
from k8s.exporter import metrics
from k8s.exporter.metrics import Metric
from k8s.exporter.settings import SettingInvalid, Settings, from_environment
from studio.settings import REPOSITORY

DOCS = REPOSITORY / "docs"


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    source = f"`{metric.source}`" if metric.source.startswith("mxSml") and "," not in metric.source else metric.source
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help} | {source} |"


def rows_of(section: str, page: str = "exporter") -> list[str]:
    text = (DOCS / f"{page}.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(
    ("section", "of"), [("Metrics of a card", metrics.OF_A_CARD), ("Metrics of the exporter", metrics.OF_THE_EXPORTER)]
)
def test_the_page_shows_the_table_of_the_code(section: str, of: tuple[Metric, ...]) -> None:
    assert rows_of(section) == [row(metric) for metric in of]


def test_names_follow_prometheus() -> None:
    everything = (*metrics.OF_A_CARD, *metrics.OF_THE_EXPORTER)
    assert len({metric.name for metric in everything}) == len(everything)
    for metric in everything:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not set(metric.labels) & set(metrics.CARD_LABELS), metric.name


@pytest.mark.parametrize(("page", "of"), [("exporter", Settings), ("device-plugin", device_plugin.Settings)])
def test_the_page_shows_every_setting(page: str, of: type[Settings | device_plugin.Settings]) -> None:
    meanings = get_type_hints(of, include_extras=True)
    variable = f"STUDIO_{page.upper().replace('-', '_')}"
    wanted = [
        f"| `{variable}_{one.name.upper()}` | {f'`{one.default}`' if one.default != '' else ''} "
        f"| {meanings[one.name].__metadata__[0]} |"
        for one in fields(of)
    ]
    assert rows_of("Settings", page) == wanted


def test_settings_are_read_in_their_types() -> None:
    told = {"STUDIO_EXPORTER_PORT": "9500", "STUDIO_EXPORTER_LIBRARY": "/a/b.so", "STUDIO_EXPORTER_PERIOD_SECONDS": "2"}
    settings = from_environment(told | {"STUDIO_EXPORTER_NODE": "node-2", "OTHER": "x"})
    assert (settings.port, settings.library, settings.period_seconds) == (9500, Path("/a/b.so"), 2.0)
    assert settings.host_label == "node-2"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("PORT", "nine", "STUDIO_EXPORTER_PORT is 'nine'"),
        ("PORT", "8000", "STUDIO_EXPORTER_PORT must not be 8000: MetaX's own exporter has it"),
        ("PERIOD_SECONDS", "0", "STUDIO_EXPORTER_PERIOD_SECONDS must be more than 0"),
        ("LONGEST_GAP_SECONDS", "1", "STUDIO_EXPORTER_LONGEST_GAP_SECONDS must not be less"),
        ("STALE_AFTER_SECONDS", "9", "STUDIO_EXPORTER_STALE_AFTER_SECONDS must be at least twice"),
        ("LOG_FORMAT", "xml", "STUDIO_EXPORTER_LOG_FORMAT must be console or json"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingInvalid, match=sentence):
        from_environment({f"STUDIO_EXPORTER_{variable}": value})
