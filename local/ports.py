"""Which port each service listens on. One offset moves all of them, so that stacks live side by side.

All lie below the kernel's ephemeral range (32768 and up): a client socket can never sit on one of them by accident.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from studio.errors import StudioError

MAX_OFFSET = 13_000  # keeps the highest port below the ephemeral range


class PortTaken(StudioError):
    """Another process listens where one of our services wants to."""

    def __init__(self, port: int, service: str) -> None:
        super().__init__(
            f"Port {port}, which {service} needs, is taken by another process: stop that one, or move all ports of "
            "this stack with `studio up --port-offset 100` (or STUDIO_PORT_OFFSET=100)."
        )


class PortOffsetInvalid(StudioError):
    """An offset that would leave the range of usable ports."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one stack, on loopback."""

    offset: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.offset <= MAX_OFFSET:
            raise PortOffsetInvalid(f"a port offset lies between 0 and {MAX_OFFSET}, not at {self.offset}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Ports:
        """Shifted by `STUDIO_PORT_OFFSET`."""
        text = environ.get("STUDIO_PORT_OFFSET") or "0"
        if not text.isdecimal():
            raise PortOffsetInvalid(f"STUDIO_PORT_OFFSET is a number between 0 and {MAX_OFFSET}, not {text!r}")
        return cls(int(text))

    @property
    def gateway(self) -> int:
        """Public listener: API, console."""
        return 8080 + self.offset

    @property
    def gateway_internal(self) -> int:
        """Health and metrics."""
        return 8081 + self.offset

    @property
    def dagster_web(self) -> int:
        """Dagster's UI."""
        return 3070 + self.offset

    @property
    def dagster_code(self) -> int:
        """Dagster's code server; fixed, so that a restarted one can still be asked to cancel a run."""
        return 4266 + self.offset

    @property
    def postgres(self) -> int:
        """PostgreSQL."""
        return 15432 + self.offset

    @property
    def valkey(self) -> int:
        """Valkey."""
        return 6390 + self.offset

    @property
    def s3(self) -> int:
        """S3. SeaweedFS puts each gRPC twin 10,000 higher."""
        return 8333 + self.offset

    @property
    def s3_filer(self) -> int:
        """SeaweedFS's directory server."""
        return 8888 + self.offset

    @property
    def s3_master(self) -> int:
        """SeaweedFS's volume directory."""
        return 9333 + self.offset

    @property
    def s3_volume(self) -> int:
        """SeaweedFS's volume server."""
        return 9340 + self.offset

    @property
    def engines_from(self) -> int:
        """First port of the engines."""
        return 18100 + self.offset


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def require_free(wanted: Iterable[tuple[int, str]]) -> None:
    """PortTaken for the first (port, service) that is not free."""
    for port, service in wanted:
        if not is_free(port):
            raise PortTaken(port, service)
