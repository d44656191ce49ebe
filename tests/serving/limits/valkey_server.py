"""A real Valkey of a test, which may stop, hang and come back."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any

import valkey

from local.valkey import EmbeddedValkey
from tests.local.servers import serving
from tests.server import free_port


class ValkeyServer:
    """On one port for its whole life."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = EmbeddedValkey(folder, free_port(), "secret")
        self.url = self._server.url
        self._running = ExitStack()
        self._process: Popen[bytes] | None = None

    def start(self) -> None:
        """Empty, as it is after every start."""
        self._process = self._running.enter_context(serving(self._server.service(), self._folder))

    def stop(self) -> None:
        """Does nothing when it does not run."""
        self._running.close()

    def call(self, *words: str) -> Any:
        """Ask it something, past everybody else."""
        with valkey.Valkey.from_url(self.url) as client:
            return client.execute_command(*words)

    def freeze(self) -> None:
        """It takes what is sent and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
