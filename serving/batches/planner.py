"""Shards: how the lines of a file are cut into pieces of work. Pure.

A shard is what a worker does between two commits. Small batches are cut smaller, so that their counts move and a worker
that dies loses little; a shard's bytes are bounded because a worker reads them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LINES_MOST = 200
LINES_LEAST = 20
SHARDS_WANTED = 16
BYTES_MOST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LineAt:
    """Where a line lies in its file."""

    number: int
    byte_from: int
    byte_until: int


@dataclass(frozen=True, slots=True)
class Span:
    """The lines [line_from, line_until), which lie in the bytes [byte_from, byte_until)."""

    line_from: int
    line_until: int
    byte_from: int
    byte_until: int


def plan(lines: Sequence[LineAt]) -> list[Span]:
    """Cut a file. Every line lies in exactly one span."""
    most_lines = min(LINES_MOST, max(LINES_LEAST, -(-len(lines) // SHARDS_WANTED)))
    return [_span(group) for group in _groups(lines, most_lines)]


def runs(lines: Sequence[LineAt]) -> list[Span]:
    """Spans that hold exactly these lines of a file, whose line numbers may have gaps."""
    spans: list[list[LineAt]] = []
    for line in lines:
        if spans and line.byte_from == spans[-1][-1].byte_until:
            spans[-1].append(line)
        else:
            spans.append([line])
    return [_span(group) for group in spans]


def _groups(lines: Sequence[LineAt], most_lines: int) -> Iterator[list[LineAt]]:
    group: list[LineAt] = []
    for line in lines:
        if group and (len(group) == most_lines or line.byte_until - group[0].byte_from > BYTES_MOST):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _span(lines: Sequence[LineAt]) -> Span:
    first, last = lines[0], lines[-1]
    return Span(first.number, last.number + 1, first.byte_from, last.byte_until)
