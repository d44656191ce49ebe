"""What the device plugin is told, by `STUDIO_DEVICE_PLUGIN_*` variables; `docs/device-plugin.md` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from k8s.exporter.settings import read

_PREFIX = "STUDIO_DEVICE_PLUGIN_"


@dataclass(frozen=True, slots=True)
class Settings:
    """One frozen object per process."""

    library: Annotated[Path, "the vendor's library; nothing else is searched"] = Path("/opt/mxdriver/lib/libmxsml.so")
    resource: Annotated[str, "the extended resource; one plugin of a node serves it"] = "metax-tech.com/gpu"
    folder: Annotated[Path, "where the kubelet's socket is and ours is put"] = Path("/var/lib/kubelet/device-plugins")
    period_seconds: Annotated[float, "time between looks at the cards and at the kubelet's socket"] = 5.0
    dev: Annotated[Path, "the node's device files"] = Path("/dev")
    pci: Annotated[Path, "what the kernel says of PCI devices"] = Path("/sys/bus/pci/devices")


def from_environment(environment: Mapping[str, str]) -> Settings:
    """SettingInvalid, naming the variable, when a number is none."""
    return read(Settings, _PREFIX, environment)
