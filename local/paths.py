"""Where one stack keeps everything: a single folder, `.studio/` in the working directory unless told otherwise.

Deleting the folder deletes the stack. Names of files only; their content belongs to the modules that write them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The files and folders of one stack."""

    root: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> StatePaths:
        """`STUDIO_STATE_DIR`, or `.studio` here."""
        return cls(Path(environ.get("STUDIO_STATE_DIR") or ".studio").resolve())

    @property
    def data(self) -> Path:
        """What the embedded servers keep, one folder each."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """One log per service and engine."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Things that mean nothing after a restart: lock, sockets, generated configuration."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """Held while a supervisor lives; holds its process id."""
        return self.run / "supervisor.lock"

    @property
    def secrets(self) -> Path:
        """Generated passwords, readable by the owner alone."""
        return self.root / "secrets.json"

    @property
    def admin_key(self) -> Path:
        """The administrator's API key that `studio up` mints, readable by the owner alone."""
        return self.root / "admin.key"

    @property
    def state(self) -> Path:
        """What the supervisor last saw of each service."""
        return self.root / "state.json"

    @property
    def weights(self) -> Path:
        """Verified copies of model weights."""
        return self.root / "weights"

    @property
    def journal(self) -> Path:
        """The gateway's usage journal: outlives every process."""
        return self.root / "journal"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance configuration and its compute logs."""
        return self.root / "dagster"

    def log(self, name: str) -> Path:
        """The log of one service."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the folders that every stack has."""
        for folder in (self.data, self.logs, self.run, self.weights, self.journal, self.dagster_home):
            folder.mkdir(parents=True, exist_ok=True)
