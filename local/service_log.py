"""The log of a service or an engine: opened for appending, rotated between starts, read for the reason of an end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_ROTATED_ABOVE_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServiceLog:
    """A service's log file."""

    path: Path

    def rotate(self) -> None:
        """Keep a large log of earlier runs as `.1` and begin a new one."""
        if self.path.exists() and self.path.stat().st_size > _ROTATED_ABOVE_BYTES:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))

    def open(self) -> int:
        """A descriptor that appends."""
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def tail(self, lines: int = 8) -> str:
        """The last lines, for a message that says why a service ended."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").rstrip().splitlines()[-lines:])
