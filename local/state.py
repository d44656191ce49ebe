"""`state.json`: what the supervisor last saw, for `studio status`, tests and tools. Each write replaces all of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class ServiceState(StrEnum):
    """Where a service is in its life."""

    WAITING = "waiting"  # for services it depends on
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"  # died, and waits out its back-off
    DONE = "done"  # a step that has run to its end
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class StackPhase(StrEnum):
    """Where the stack as a whole is."""

    STARTING = "starting"
    READY = "ready"  # everything that requests need; Dagster's UI may still be on its way
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service, now."""

    state: ServiceState
    pid: int | None
    port: int | None
    since: str  # instant, ISO 8601
    restarts: int
    essential: bool


@dataclass(frozen=True, slots=True)
class StackState:
    """The whole file. `pid` is the stack's own process; `failure` is the sentence that explains why a start ended."""

    pid: int
    phase: StackPhase
    port_offset: int
    failure: str | None
    services: dict[str, ServiceStatus]

    def write(self, path: Path) -> None:
        """Replace the file at once: a reader sees the old state or the new one."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> StackState | None:
        """The last written state; None when no stack ever ran here."""
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(
            pid=document["pid"],
            phase=StackPhase(document["phase"]),
            port_offset=document["port_offset"],
            failure=document["failure"],
            services={
                name: ServiceStatus(**(entry | {"state": ServiceState(entry["state"])}))
                for name, entry in document["services"].items()
            },
        )
