"""The vocabulary of a supervised process. Which services there are is declared in `stack.py`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def _always() -> bool:
    return True


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the stack and how it lives.

    `prepare` runs before each start (folders, configuration), `is_ready` is asked until it says yes, `furnish` runs
    after each start before anybody depends on the service (roles, buckets). All three may block; they run in threads.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # added to the supervisor's own; holds secrets
    port: int | None = None
    depends_on: tuple[str, ...] = ()  # these start before it and stop after it
    waits_itself: bool = False  # starts at once: it copes with what it depends on not being there yet
    prepare: Callable[[], None] = _nothing
    is_ready: Callable[[], bool] = _always
    furnish: Callable[[], None] = _nothing
    runs_once: bool = False  # a step, not a server: ready when it has ended well
    essential: bool = True  # requests cannot be answered without it, so a start without it has failed
    os_user: str | None = None
    cwd: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_seconds: float = 10.0
    start_timeout_seconds: float = 60.0


def in_start_order(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """Dependencies first. ValueError for an unknown dependency or a circle: an error in our own declaration."""
    by_name = {service.name: service for service in services}
    ordered: dict[str, Service] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(f"services depend on each other in a circle: {' -> '.join((*path, name))}")
        if name not in by_name:
            raise ValueError(f"{path[-1]} depends on {name}, which is no service")
        if name not in ordered:
            for dependency in by_name[name].depends_on:
                visit(dependency, (*path, name))
            ordered[name] = by_name[name]

    for name in by_name:
        visit(name, ())
    return tuple(ordered.values())
