"""Reading the stack's logs on a terminal: the last lines, and on request what is written from now on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from local.service_log import ServiceLog

_POLL_SECONDS = 0.3


def available(logs: Path) -> list[str]:
    """Names of services and engines that have a log."""
    return sorted(path.stem for path in logs.glob("*.log"))


def last_lines(logs: Path, names: list[str], count: int) -> Iterator[str]:
    """The last lines of each log, each named when there are several."""
    for name in names:
        for line in ServiceLog(logs / f"{name}.log").tail(count).splitlines():
            yield _labelled(name, line, names)


def new_lines(logs: Path, names: list[str]) -> Iterator[str]:
    """Lines as they are written, for ever."""
    positions = {name: (logs / f"{name}.log").stat().st_size for name in names}
    while True:
        for name in names:
            path = logs / f"{name}.log"
            if path.stat().st_size < positions[name]:  # rotated
                positions[name] = 0
            with path.open("rb") as file:
                file.seek(positions[name])
                complete, newline, _rest = file.read().rpartition(b"\n")
            positions[name] += len(complete) + len(newline)
            for line in complete.decode(errors="replace").splitlines():
                yield _labelled(name, line, names)
        time.sleep(_POLL_SECONDS)


def _labelled(name: str, line: str, names: list[str]) -> str:
    return line if len(names) == 1 else f"{name:<16} {line}"
