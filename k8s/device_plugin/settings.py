"""What the device plugin is told, by `STUDIO_DEVICE_PLUGIN_*` variables; `docs/device-plugin.md` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from k8s.exporter.settings import SettingInvalid, read

_PREFIX = "STUDIO_DEVICE_PLUGIN_"


@dataclass(frozen=True, slots=True)
class Settings:
    """One frozen object per process."""

    library: Annotated[Path, "the vendor's library; nothing else is searched"] = Path("/opt/mxdriver/lib/libmxsml.so")
    resource: Annotated[str, "the extended resource; one plugin of a node serves it"] = "metax-tech.com/gpu"
    folder: Annotated[Path, "where the kubelet's socket is and ours is put"] = Path("/var/lib/kubelet/device-plugins")
    period_seconds: Annotated[float, "time between looks at the cards and at the kubelet's socket"] = 5.0
    stale_after_seconds: Annotated[float, "a look that takes longer hangs in the driver: no card is healthy"] = 60.0
    dev: Annotated[Path, "the node's device files"] = Path("/dev")
    pci: Annotated[Path, "what the kernel says of PCI devices"] = Path("/sys/bus/pci/devices")

    def __post_init__(self) -> None:
        if self.period_seconds <= 0:
            raise SettingInvalid(f"{_PREFIX}PERIOD_SECONDS must be more than 0")
        if self.stale_after_seconds < 2 * self.period_seconds:
            raise SettingInvalid(f"{_PREFIX}STALE_AFTER_SECONDS must be at least twice {_PREFIX}PERIOD_SECONDS")


def from_environment(environment: Mapping[str, str]) -> Settings:
    """SettingInvalid, naming the variable, when a number is none."""
    return read(Settings, _PREFIX, environment)
