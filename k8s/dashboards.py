"""Dashboards for Grafana, made from definitions in `k8s/monitoring/dashboards`: `python -m k8s.dashboards` writes them,
and copies of the rules, into the chart, which can read no file outside of its folder. A test holds the two together.

A definition names rows of panels and their queries. What Grafana wants beside that is the same for all and stands here:
the data source is chosen at the top of each board, and boards link to each other. A figure that is NaN was not
measured, and a panel says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).resolve().parent / "monitoring"
FILES = Path(__file__).resolve().parent / "charts/monitoring/files"
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}  # the board's first variable
_KINDS = {"timeseries", "stat", "table"}
_ABREAST, _HEIGHT, _ACROSS = 4, 8, 24


class PanelUnclear(ValueError):
    """A definition says something that no panel can be made of."""


def definitions() -> Iterator[Mapping[str, Any]]:
    """Of all dashboards, by file name."""
    for path in sorted((MONITORING / "dashboards").glob("*.yaml")):
        yield yaml.safe_load(path.read_text())


def queries(definition: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Panel, expression and legend of every query; Grafana's own words in them stand as they are."""
    for row in definition["rows"]:
        for panel in row["panels"]:
            for query in panel["queries"]:
                yield panel["title"], query["expr"], query["legend"]


def dashboard(definition: Mapping[str, Any]) -> dict[str, Any]:
    """As Grafana stores it. At most four panels stand side by side; they are numbered in reading order."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in definition["rows"]:
        title = {"type": "row", "title": row["title"], "collapsed": False, "panels": []}
        panels.append(title | {"id": len(panels) + 1, "gridPos": {"x": 0, "y": y, "w": _ACROSS, "h": 1}})
        y += 1
        abreast = min(len(row["panels"]), _ABREAST)
        width = _ACROSS // abreast
        for number, panel in enumerate(row["panels"]):
            down, across = divmod(number, abreast)
            position = {"x": across * width, "y": y + down * _HEIGHT, "w": width, "h": _HEIGHT}
            panels.append(_panel(panel) | {"id": len(panels) + 1, "gridPos": position})
        y += -(-len(row["panels"]) // abreast) * _HEIGHT
    return {
        "uid": definition["uid"],
        "title": definition["title"],
        "description": definition["about"],
        "tags": ["studio"],
        "editable": False,
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{"type": "dashboards", "title": "Boards", "tags": ["studio"], "asDropdown": True, "keepTime": True}],
        "templating": {"list": [_DATASOURCE, *(_variable(*one) for one in definition.get("variables", {}).items())]},
        "panels": panels,
    }


def _panel(panel: Mapping[str, Any]) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    if kind not in _KINDS:
        raise PanelUnclear(f"{panel['title']}: a panel is one of {', '.join(sorted(_KINDS))}, not {kind}")
    made = {
        "type": kind,
        "title": panel["title"],
        "description": panel.get("about", ""),
        "datasource": PROMETHEUS,
        "fieldConfig": {
            "defaults": {
                "unit": panel.get("unit", "short"),
                "mappings": [_NOT_MEASURED],
                **({} if kind == "table" else {"noValue": "no data"}),
            },
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": PROMETHEUS,
                "expr": query["expr"],
                "legendFormat": query["legend"],
                "instant": kind != "timeseries",
                "range": kind == "timeseries",
                **({"format": "table"} if kind == "table" else {}),
            }
            for number, query in enumerate(panel["queries"])
        ],
    }
    return made if kind != "table" else _columns(made, panel["queries"])


def _columns(table: dict[str, Any], queries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row for each set of labels, and a column for each query, under the query's legend and in its unit."""
    columns = ["Value"] if len(queries) == 1 else [f"Value #{target['refId']}" for target in table["targets"]]
    named = {column: query["legend"] for column, query in zip(columns, queries, strict=True) if query["legend"]}
    hidden = {"Time": True, "__name__": True} | {column: True for column in columns if column not in named}
    organize = {"excludeByName": hidden, "renameByName": named}
    units = {query["legend"]: query["unit"] for query in queries if "unit" in query}
    overrides = [
        {"matcher": {"id": "byName", "options": legend}, "properties": [{"id": "unit", "value": unit}]}
        for legend, unit in units.items()
    ]
    return table | {
        "fieldConfig": table["fieldConfig"] | {"overrides": overrides},
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
    }


_NOT_MEASURED = {"type": "special", "options": {"match": "nan", "result": {"index": 0, "text": "not measured"}}}
_DATASOURCE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "current": {"text": "default", "value": "default"},
}


def _variable(name: str, query: str) -> dict[str, Any]:
    """`All` matches series without the label, too: requests that were refused before a model was known."""
    return {
        "name": name,
        "type": "query",
        "datasource": PROMETHEUS,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def files() -> dict[Path, str]:
    """What the chart holds of it, by path."""
    boards = {
        FILES / "dashboards" / f"{board['uid']}.json": json.dumps(dashboard(board), indent=1, ensure_ascii=False) + "\n"
        for board in definitions()
    }
    rules = {FILES / "rules" / path.name: path.read_text() for path in sorted((MONITORING / "rules").glob("*.yaml"))}
    return boards | rules | {FILES / "alertmanager.yaml": (MONITORING / "alertmanager.yaml").read_text()}


def main() -> None:
    """Write them all, and remove what is defined no more."""
    wanted = files()
    for path in FILES.glob("*/*"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
