"""The cards as the kubelet is told of them: id, health, NUMA node, and the device files that come with one."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Condition

import structlog

from k8s.device_plugin.choice import Levels
from k8s.exporter import metrics
from k8s.exporter.cards import Card, Seen
from studio.errors import StudioError

log = structlog.get_logger()

# Of the driver as a whole: every container with a card needs those that are there.
_CONTROL_FILES = ("mxcd", "mxnd", "mxgd")


class CardUnknown(StudioError):
    """The kubelet asks for a card that is not here, or one without device files."""


class CardUnhealthy(StudioError):
    """It asks for a card that went wrong since it was offered."""


class CardAskedTwice(StudioError):
    """It asks for one card for two containers, or twice for one."""


@dataclass(frozen=True, slots=True)
class Device:
    """One card. Its id is its uuid, so that it stays the same when cards are numbered anew."""

    card: Card
    is_healthy: bool
    numa_node: int | None


@dataclass(slots=True)
class Inventory:
    """What was last seen; whoever waits on `changed` is woken when it differs from before."""

    dev: Path
    pci: Path
    stale_after_seconds: float
    looked_at: float = field(default_factory=time.monotonic)
    devices: Mapping[str, Device] = field(default_factory=dict)
    levels: Levels = field(default_factory=dict)
    changed: Condition = field(default_factory=Condition)

    def update(self, seen: Seen | None, levels: Levels) -> None:
        """After a look at the cards; None: the driver is away. A card once seen stays, unhealthy while it is gone."""
        devices = {uuid: Device(device.card, False, device.numa_node) for uuid, device in self.devices.items()}
        for card, values in (seen.values if seen else {}).items():
            takes_work = not any(metric is metrics.UNAVAILABLE for metric, _ in values)
            devices[card.uuid] = Device(card, takes_work, self._numa_node(card))
        for uuid, device in devices.items():
            before = self.devices.get(uuid)
            if before is None or before.is_healthy != device.is_healthy:
                log.info("card_healthy" if device.is_healthy else "card_unhealthy", uuid=uuid)
        with self.changed:
            self.looked_at = time.monotonic()
            if devices != self.devices:
                self.devices = devices
                self.changed.notify_all()
            if levels:
                self.levels = levels

    def shown(self) -> Mapping[str, Device]:
        """The cards as they may be given now. While a look hangs in the driver nobody knows that any works."""
        if time.monotonic() - self.looked_at <= self.stale_after_seconds:
            return self.devices
        return {uuid: replace(device, is_healthy=False) for uuid, device in self.devices.items()}

    def give(self, containers: Sequence[Collection[str]]) -> list[list[Path]]:
        """Device files for each container with its cards. CardUnknown, CardUnhealthy, CardAskedTwice."""
        asked = [uuid for uuids in containers for uuid in uuids]
        shown = self.shown()
        for uuid in asked:
            if uuid not in shown:
                raise CardUnknown(f"{uuid} is no card of this node")
            if not shown[uuid].is_healthy:
                raise CardUnhealthy(f"{uuid} is unhealthy: it may not be given")
            if asked.count(uuid) > 1:
                raise CardAskedTwice(f"{uuid} is asked for twice: a card is given as a whole")
        return [self._files(uuids) for uuids in containers]

    def _files(self, uuids: Collection[str]) -> list[Path]:
        files = [self.dev / name for name in _CONTROL_FILES if (self.dev / name).exists()]
        for uuid in uuids:
            of_card = sorted((self.pci / self.devices[uuid].card.bdf / "drm").glob("*"))
            of_card = [path for path in of_card if path.name.startswith(("card", "renderD"))]
            if not of_card:
                raise CardUnknown(f"{uuid} has no device files on this node")
            files += [self.dev / "dri" / path.name for path in of_card]
        return files

    def _numa_node(self, card: Card) -> int | None:
        try:
            number = int((self.pci / card.bdf / "numa_node").read_text())
        except (OSError, ValueError):
            return None
        return number if number >= 0 else None
