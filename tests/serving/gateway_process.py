"""The gateway as a process of a test, on real PostgreSQL, with attached engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from sqlalchemy import Engine, insert

from studio import clock, ids
from studio.db.fleet import Replica
from studio.db.sessions import unit_of_work
from studio.settings import REPOSITORY
from tests.server import TestDatabase, free_port

CHAT = "smollm2-135m-instruct"
CHAT_FAST = "smollm2-135m-instruct-fast"
EMBEDDING = "all-minilm-l6-v2"

# A client of its own for each poll would read all certificates of the system anew: 20 ms of CPU.
_http = httpx.Client(trust_env=False, verify=False)  # noqa: S501  # plain HTTP on loopback


class GatewayProcess:
    """Ready inside the `with` block. Another module than `serving` may stand in for parts of it."""

    def __init__(
        self,
        database: TestDatabase,
        folder: Path,
        *module_and_arguments: str,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port, self.internal_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.internal_url = f"http://127.0.0.1:{self.internal_port}"
        self.journal_dir = folder / "journal"
        self.log_path = folder / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments = module_and_arguments or ("serving",)
        self._environment = (
            os.environ
            | database.environment("gateway", "operator", "shipper")
            | {
                "STUDIO_ENV": "test",
                "STUDIO_GATEWAY_PORT": str(self.port),
                "STUDIO_GATEWAY_INTERNAL_PORT": str(self.internal_port),
                "STUDIO_GATEWAY_URL": self.url,
                "STUDIO_JOURNAL_DIR": str(self.journal_dir),
                "STUDIO_CONSOLE_DIR": str(folder / "no-console"),  # the plain first page, whatever was built here
                "STUDIO_CACHE_SALT_KEY": "a secret of the tests",
                "STUDIO_CONTENT_KEY": "another secret of the tests",
            }
            | dict(settings or {})
        )

    def set(self, **settings: str) -> None:
        """Settings that depend on where it will be reached; before it starts."""
        self._environment |= settings

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it is ready. After `kill` or `stop` it may be started again."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments], cwd=REPOSITORY, env=self._environment, stdout=log, stderr=log
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()  # nobody else will: the caller is not inside the `with` block yet
            raise

    def stop(self) -> None:
        """SIGTERM, and wait for a clean end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(timeout=40) == 0, self.log_path.read_text()

    def kill(self) -> None:
        """SIGKILL. Does nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """By itself, or because it was told to."""
        return self._process is not None and self._process.poll() is not None

    def health(self) -> dict[str, Any]:
        """What `/health/ready` says."""
        body: dict[str, Any] = httpx.get(f"{self.internal_url}/health/ready").json()
        return body

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 90  # 3 s on a quiet machine
        while not self._is_ready():
            assert process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            return _http.get(f"{self.internal_url}/health/ready").status_code == 200
        except httpx.HTTPError:
            return False


def attach(
    operator: Engine, url: str, variant_id: str = CHAT, *, state: str = "ready", max_num_seqs: int | None = None
) -> UUID:
    """Make an engine that runs at `url` a replica, as `studio fleet attach` does."""
    replica_id = ids.uuid7()
    with unit_of_work(operator) as session:
        session.execute(
            insert(Replica).values(
                id=replica_id,
                variant_id=variant_id,
                kind="attached",
                state=state,
                url=url,
                engine_model="stub",
                ready_at=clock.now(),
                max_num_seqs=max_num_seqs,
            )
        )
    return replica_id


def wait_until(condition: Any, seconds: float = 10) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
