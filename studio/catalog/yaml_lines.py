"""YAML with line numbers: plain data, and for each place in it the line it came from.

Numbers with a fraction stay text, so a price never passes through a float.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]


class YamlBroken(Exception):
    """The file is no YAML, or says a key twice. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def load(path: Path) -> tuple[Any, dict[Place, int]]:
    """The document of `path` and the line of each place in it; the root is the place ()."""
    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    lines: dict[Place, int] = {}

    def build(node: yaml.Node, place: Place) -> Any:
        lines[place] = node.start_mark.line + 1
        match node:
            case yaml.MappingNode():
                mapping: dict[str, Any] = {}
                for key_node, value_node in node.value:
                    key = str(key_node.value)
                    if key in mapping:
                        raise YamlBroken(key_node.start_mark.line + 1, f"{key!r} is given twice")
                    mapping[key] = build(value_node, (*place, key))
                    lines[(*place, key)] = key_node.start_mark.line + 1
                return mapping
            case yaml.SequenceNode():
                return [build(item, (*place, index)) for index, item in enumerate(node.value)]
            case _ if node.tag == "tag:yaml.org,2002:float":
                return node.value
            case _:
                return loader.construct_object(node)

    try:
        root = loader.get_single_node()
        return (None if root is None else build(root, ())), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlBroken(line, error.problem or "this is no YAML") from error
    finally:
        loader.dispose()


def line_of(lines: dict[Place, int], place: Place) -> int:
    """The line of the nearest place that exists: a missing field is reported where its parent starts."""
    while place not in lines:
        place = place[:-1]
    return lines[place]
