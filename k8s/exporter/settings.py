"""What the exporter is told, by `STUDIO_EXPORTER_*` variables. `docs/exporter.md` lists them; a test compares both.

Its own small module: the settings of the other processes need packages that a node has no use for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from studio.errors import StudioError

_PREFIX = "STUDIO_EXPORTER_"
_VENDORS_PORT = 8000

Kind = TypeVar("Kind")


class SettingInvalid(StudioError):
    """A variable holds what it must not."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One frozen object per process."""

    host: Annotated[str, "address of the listener; in a pod: `0.0.0.0`"] = "127.0.0.1"
    port: Annotated[int, "its port; the vendor's exporter has 8000"] = 9400
    node: Annotated[str, "the label `host`; empty: the host name"] = ""
    library: Annotated[Path, "the vendor's library; nothing else is searched"] = Path("/opt/mxdriver/lib/libmxsml.so")
    mx_smi: Annotated[str, "the vendor's command, when the library cannot be used; empty: no fallback"] = "mx-smi"
    period_seconds: Annotated[float, "time between samples"] = 5.0
    longest_gap_seconds: Annotated[float, "longest time between samples over which energy is counted"] = 30.0
    stale_after_seconds: Annotated[float, "a pass that takes longer hangs: its last values are the present no more"] = (
        60.0
    )
    forget_after_days: Annotated[float, "a card not seen for so long has been taken out: no alert any more"] = 14.0
    records: Annotated[Path, "cards once seen, joules and counters; keep it on disk"] = Path(
        ".studio/exporter/records.json"
    )
    pod_resources: Annotated[Path, "the kubelet's socket that says which pod holds a card"] = Path(
        "/var/lib/kubelet/pod-resources/kubelet.sock"
    )
    resources: Annotated[str, "extended resources that are cards, by commas"] = "metax-tech.com/gpu"
    workloads: Annotated[str, "file that says what pods work for; empty: none"] = ""
    log_format: Annotated[Literal["console", "json"], "how logs are written to stderr"] = "json"

    def __post_init__(self) -> None:
        if self.port == _VENDORS_PORT:
            raise SettingInvalid(f"{_PREFIX}PORT must not be {_VENDORS_PORT}: MetaX's own exporter has it")
        if self.period_seconds <= 0:
            raise SettingInvalid(f"{_PREFIX}PERIOD_SECONDS must be more than 0")
        if self.longest_gap_seconds < self.period_seconds:
            raise SettingInvalid(f"{_PREFIX}LONGEST_GAP_SECONDS must not be less than {_PREFIX}PERIOD_SECONDS")
        if self.stale_after_seconds < 2 * self.period_seconds:
            raise SettingInvalid(f"{_PREFIX}STALE_AFTER_SECONDS must be at least twice {_PREFIX}PERIOD_SECONDS")
        if self.log_format not in {"console", "json"}:
            raise SettingInvalid(f"{_PREFIX}LOG_FORMAT must be console or json")

    @property
    def host_label(self) -> str:
        """What the label `host` says."""
        return self.node or socket.gethostname()


def from_environment(environment: Mapping[str, str]) -> Settings:
    """SettingInvalid, naming the variable, when a number is none."""
    return read(Settings, _PREFIX, environment)


def read(settings: type[Kind], prefix: str, environment: Mapping[str, str]) -> Kind:
    """A dataclass of settings with defaults from variables with a prefix. SettingInvalid, naming the variable."""
    given: dict[str, Any] = {}
    for one in fields(settings):  # type: ignore[arg-type]  # a dataclass, which no type says
        name = prefix + one.name.upper()
        if name in environment:
            kind: Callable[[str], Any] = type(one.default)
            try:
                given[one.name] = kind(environment[name])
            except ValueError as error:
                raise SettingInvalid(f"{name} is {environment[name]!r}: {error}") from error
    return settings(**given)
