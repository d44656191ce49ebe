"""Dagster's instance on one machine: `dagster.yaml`, `workspace.yaml` and its three processes.

Its database is its own and may be dropped at any time: no money and no job lives there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from local.ports import Ports
from local.readiness import accepts_connections, http_ok
from local.services import Service
from studio.settings import REPOSITORY

_CODE_LOCATION = "studio"
_COORDINATOR = ("orchestration.coordinator", "AuditedRunCoordinator")


@dataclass(frozen=True, slots=True)
class DagsterHome:
    """The instance folder and how to run its processes. `database_url` names psycopg2, which dagster-postgres needs."""

    folder: Path
    ports: Ports
    database_url: str
    environment: dict[str, str]  # what our own code needs; it runs in the code server and the runs that start there

    def services(self, depends_on: tuple[str, ...]) -> tuple[Service, ...]:
        """Code server, daemon and webserver. Requests are answered without them."""
        env = {
            "DAGSTER_HOME": str(self.folder),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "PYTHONPATH": str(REPOSITORY),  # the run coordinator is ours
        }
        workspace = ("-w", str(self._workspace))
        code = Service(
            name="dagster-code",
            argv=(
                *(sys.executable, "-m", "dagster", "api", "grpc", "-m", "orchestration.definitions"),
                *("-h", "127.0.0.1", "-p", str(self.ports.dagster_code), "--location-name", _CODE_LOCATION),
            ),
            env={**self.environment, **env},
            port=self.ports.dagster_code,
            depends_on=depends_on,
            prepare=self.prepare,
            is_ready=lambda: accepts_connections(self.ports.dagster_code),
            essential=False,
            start_timeout_seconds=120.0,
        )
        daemon = Service(
            name="dagster-daemon",
            argv=(*_script("dagster-daemon"), "run", *workspace),
            env=env,
            depends_on=("dagster-code",),
            essential=False,
        )
        web = Service(
            name="dagster-web",
            argv=(*_script("dagster-webserver"), "-h", "127.0.0.1", "-p", str(self.ports.dagster_web), *workspace),
            env=env,
            port=self.ports.dagster_web,
            depends_on=("dagster-code",),
            is_ready=lambda: http_ok(f"http://127.0.0.1:{self.ports.dagster_web}/server_info"),
            essential=False,
            start_timeout_seconds=120.0,
        )
        return code, daemon, web

    def prepare(self) -> None:
        """Write the instance's configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "dagster.yaml"
        path.touch(mode=0o600)  # it holds the database password
        path.write_text(yaml.safe_dump(self._instance(), sort_keys=False))
        server = {"host": "127.0.0.1", "port": self.ports.dagster_code, "location_name": _CODE_LOCATION}
        self._workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))

    @property
    def _workspace(self) -> Path:
        return self.folder / "workspace.yaml"

    def _instance(self) -> dict[str, object]:
        return {
            "storage": {"postgres": {"postgres_url": self.database_url}},
            "run_coordinator": _run_coordinator(),
            "concurrency": {
                "runs": {
                    "max_concurrent_runs": 4,
                    "tag_concurrency_limits": [
                        {"key": "studio/kind", "value": "fine-tune", "limit": 1},
                        {"key": "studio/kind", "value": "batch-worker", "limit": 2},
                    ],
                },
                "pools": {"granularity": "run", "default_limit": 1},
            },
            "run_monitoring": {
                "enabled": True,
                "poll_interval_seconds": 30,
                "start_timeout_seconds": 180,
                "cancel_timeout_seconds": 60,
                "free_slots_after_run_end_seconds": 300,  # without it a cancelled run keeps its slot for ever
                "max_runtime_seconds": 86_400,
            },
            "run_retries": {"enabled": True, "max_retries": 0, "retry_on_asset_or_op_failure": False},
            "retention": {
                "sensor": {"purge_after_days": {"skipped": 1, "success": 14, "failure": 30, "started": 30}},
                "schedule": {"purge_after_days": 90},
            },
            "sensors": {"use_threads": True, "num_workers": 2},
            "schedules": {"use_threads": True, "num_workers": 2},
            "local_artifact_storage": {
                "module": "dagster._core.storage.root",
                "class": "LocalArtifactStorage",
                "config": {"base_dir": str(self.folder)},
            },
            "telemetry": {"enabled": False},
            "nux": {"enabled": False},  # a dialog that asks finance to join a newsletter
        }


def _run_coordinator() -> dict[str, object]:
    """Ours writes down who launched a run from the UI."""
    module, name = _COORDINATOR
    return {
        "module": module,
        "class": name,
        "config": {"dequeue_interval_seconds": 1, "dequeue_use_threads": True, "dequeue_num_workers": 2},
    }


def _script(name: str) -> tuple[str, ...]:
    return (sys.executable, str(Path(sys.prefix) / "bin" / name))
