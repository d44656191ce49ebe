"""`python -m k8s.device_plugin`: looks at the cards and at the kubelet's socket, every few seconds."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event

import grpc
import structlog

from k8s.device_plugin.inventory import Inventory
from k8s.device_plugin.service import ENDPOINT, DevicePluginService, register
from k8s.device_plugin.settings import Settings, from_environment
from k8s.exporter.library import LibraryCards
from k8s.exporter.settings import SettingInvalid
from studio import logs

log = structlog.get_logger()


class DevicePlugin:
    """One pass after another; what a pass finds is the inventory, what it changes is our place at the kubelet."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._library = LibraryCards(settings.library, settings.period_seconds)
        self._inventory = Inventory(settings.dev, settings.pci, settings.stale_after_seconds)
        self._kubelet = settings.folder / "kubelet.sock"
        self._socket = settings.folder / ENDPOINT
        self._service = DevicePluginService(self._inventory, self._socket)
        self._registered_at: tuple[int, int] | None = None  # inode and time of the kubelet's socket
        self._trouble: str | None = None

    def run(self, stop: Event) -> None:
        """Until stopped."""
        while not stop.is_set():
            seen = self._library.read(self._inventory.devices.keys())
            self._inventory.update(seen, self._library.topology() if seen else {})
            self._be_registered()
            stop.wait(self._settings.period_seconds)
        self._service.stop()

    def _be_registered(self) -> None:
        """A kubelet that was started again has another socket, and has removed ours. One that has lost our stream asks
        for it again when it is told of us."""
        try:
            status = self._kubelet.stat()
            kubelet = (status.st_ino, status.st_mtime_ns)
            if kubelet == self._registered_at and self._socket.exists() and not self._service.is_abandoned:
                return
            self._service.serve()
            register(self._kubelet, self._settings.resource)
        except (OSError, grpc.RpcError) as error:
            self._registered_at = None
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("not_registered", kubelet=str(self._kubelet), error=self._trouble)
            return
        self._registered_at, self._trouble = kubelet, None
        log.info("registered", resource=self._settings.resource)


def main() -> int:
    """Until SIGTERM or SIGINT. 2 when a setting is wrong."""
    try:
        settings = from_environment(os.environ)
    except SettingInvalid as error:
        print(f"The device plugin cannot start: {error}", file=sys.stderr)
        return 2
    logs.configure("json")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    DevicePlugin(settings).run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
