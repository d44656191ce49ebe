"""The whole cloud of one machine, started once for all stories, beside whatever else runs here."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.ports import MAX_OFFSET, Ports, PortTaken, require_free
from local.stack import Stack
from studio.settings import REPOSITORY


@dataclass(frozen=True)
class Cloud:
    """A running cloud, used as its users do: by the command line, by HTTP, by SQL."""

    folder: Path
    offset: int
    api_key: str | None = None  # None: the administrator's, which `studio up` leaves in the folder

    @property
    def environment(self) -> dict[str, str]:
        """What a shell would have set."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STUDIO_")}
        own = {"STUDIO_STATE_DIR": str(self.folder), "STUDIO_PORT_OFFSET": str(self.offset)}
        own["STUDIO_CROSS_CHECK_SHARE"] = "1"
        return inherited | own | ({"STUDIO_API_KEY": self.api_key} if self.api_key else {})

    def run(self, *arguments: str, module: str = "local", timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """`studio ...` to its end."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def studio(self, *arguments: str) -> Any:
        """`studio ... --json`, which must succeed."""
        result = self.run(*arguments, "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)

    @property
    def status(self) -> Mapping[str, Any]:
        """`studio status --json`."""
        answer: Mapping[str, Any] = self.studio("status")
        return answer

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """As the auditor, whose URL `studio status` prints."""
        url = self.status["database_url"].replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            return connection.execute(sql.encode(), parameters).fetchall()


@pytest.fixture(scope="session")
def cloud(run_folder: Path) -> Iterator[Cloud]:
    """Up before the first story, down after the last, whatever happened in between."""
    folder = run_folder / "cloud"
    cloud = Cloud(folder, _free_offset(folder))
    try:
        started = cloud.run("up", "--wait-for-all")
        assert started.returncode == 0, started.stdout + started.stderr
        yield cloud
    finally:
        cloud.run("down")


@pytest.fixture(scope="session")
def told(cloud: Cloud) -> str:
    """The demo's own account of the first telling; with a shorter batch, which is still killed in the middle."""
    result = cloud.run("--batch-prompts", "64", module="local.demo", timeout=1700)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def _free_offset(folder: Path) -> int:
    for offset in random.sample(range(1000, MAX_OFFSET, 100), 20):
        ports = Ports(offset)
        stack = Stack.from_environment(ports, {"STUDIO_STATE_DIR": str(folder)})
        try:
            require_free(stack.listeners())
        except PortTaken:
            continue
        return offset
    raise RuntimeError("found no free range of ports")
