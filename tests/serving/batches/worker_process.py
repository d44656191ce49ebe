"""Batch workers as processes of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from studio.settings import REPOSITORY


class Workers:
    """Starts them; they end by themselves when nothing is left to do. Dagster is not there."""

    def __init__(self, settings: Mapping[str, str], log_path: Path) -> None:
        self._environment = os.environ | dict(settings) | {"STUDIO_CACHE_SALT_KEY": "a secret of the tests"}
        self._log_path = log_path
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """One more."""
        with self._log_path.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.serving.batches.quick_drain"],
                cwd=REPOSITORY,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        self._started.append(worker)
        return worker

    def wait(self, worker: subprocess.Popen[bytes]) -> None:
        """Until it has ended in good order."""
        assert worker.wait(timeout=120) == 0, self._log_path.read_text()

    def drain(self) -> None:
        """One worker, to its end."""
        self.wait(self.start())

    def kill(self) -> None:
        """Whatever still runs."""
        for worker in self._started:
            worker.kill()
            worker.wait()
