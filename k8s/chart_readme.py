"""A chart's README, made from its values: `python -m k8s.chart_readme` writes them, a test holds them to the values.

Each value has its sentence in a comment above it that begins with two dashes; one that has none is an error, so the
table is complete. A map has none of its own: its members have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).resolve().parent / "charts"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z0-9_.-]+):")


class ValueUnexplained(ValueError):
    """A value stands in `values.yaml` without its sentence."""


def readme(chart: Path) -> str:
    """The README of one chart."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    rows = [f"| `{name}` | `{default}` | {sentence} |" for name, default, sentence in values_of(chart)]
    return "\n".join(
        [
            f"# {about['name']}",
            "",
            about["description"],
            "",
            "[docs/kubernetes.md](../../../docs/kubernetes.md) says how it is installed and what was verified.",
            "This page is made from `values.yaml` by `python -m k8s.chart_readme`.",
            "",
            "| value | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def values_of(chart: Path) -> Iterator[tuple[str, str, str]]:
    """Path, default and sentence of every value, in the order of the file."""
    text = (chart / "values.yaml").read_text()
    values, sentences = yaml.safe_load(text), _sentences(text)
    for path in _leaves(values, sentences, ()):
        if path not in sentences:
            raise ValueUnexplained(f"{chart.name}: {'.'.join(path)} has no `# --` sentence above it")
        default = values
        for key in path:
            default = default[key]
        yield ".".join(path), json.dumps(default), sentences[path].replace("|", "\\|")


def _leaves(
    values: Mapping[str, Any], explained: Mapping[tuple[str, ...], str], at: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Paths of the table: what is no map, and maps that are one value and have a sentence themselves."""
    for key, value in values.items():
        path = (*at, key)
        has_own = any(other[: len(path)] == path and len(other) > len(path) for other in explained)
        if isinstance(value, Mapping) and (has_own or (value and path not in explained)):
            yield from _leaves(value, explained, path)
        else:
            yield path


def _sentences(text: str) -> dict[tuple[str, ...], str]:
    """The sentence above each key. A comment without dashes that follows directly continues it."""
    found: dict[tuple[str, ...], str] = {}
    open_keys: list[tuple[int, str]] = []
    sentence: list[str] = []
    for line in text.splitlines():
        comment = line.strip()
        if comment.startswith("# -- "):
            sentence = [comment[5:]]
        elif comment.startswith("# ") and sentence:
            sentence.append(comment[2:])
        elif key := _KEY.match(line):
            indent = len(key["indent"])
            open_keys = [(depth, name) for depth, name in open_keys if depth < indent] + [(indent, key["key"])]
            if sentence:
                found[tuple(name for _, name in open_keys)] = " ".join(sentence)
            sentence = []
        else:
            sentence = []
    return found


def main() -> None:
    """Write every chart's README."""
    for chart in sorted(path.parent for path in CHARTS.glob("*/Chart.yaml")):
        (chart / "README.md").write_text(readme(chart))


if __name__ == "__main__":
    main()
