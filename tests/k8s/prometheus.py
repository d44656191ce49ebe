"""Prometheus and its judge of metrics and rules, where they are installed (`make promtool` brings both)."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.ports import is_free
from studio.settings import REPOSITORY
from tests.local.eventually import eventually

_UNPACKED = REPOSITORY / "build/prometheus/usr/bin"


def promtool() -> Path:
    """Its path. A test that asks is skipped where it is missing: nothing else can judge in its place."""
    return _program("promtool")


class Prometheus:
    """A running server, asked over its API."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self._ask("alerts")["alerts"] if alert["state"] == "firing"}

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an expression."""
        result = self._ask(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def label_values(self, selector: str, label: str) -> list[str]:
        """Of all series of a selector, as Grafana asks for a variable."""
        values: list[str] = self._ask(f"label/{label}/values?{urllib.parse.urlencode({'match[]': selector})}")
        return values

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=10) as answer:
            return json.loads(answer.read())["data"]


@contextmanager
def prometheus(
    folder: Path, rules: list[Path], targets: dict[str, str], relabelled: Mapping[str, tuple[str, Any]] | None = None
) -> Iterator[Prometheus]:
    """A server that scrapes twice a second and evaluates as often again; `targets` are addresses by job.

    `relabelled`: by job, the name that DNS would have found its target by, and the rules that go by that name.
    """
    jobs: list[dict[str, Any]] = [
        {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()
    ]
    for job in jobs:
        if found := (relabelled or {}).get(job["job_name"]):
            job["static_configs"][0]["labels"] = {"__meta_dns_name": found[0]}
            job["relabel_configs"] = found[1]
    every = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "250ms"}
    config = folder / "prometheus.yaml"
    config.write_text(
        yaml.safe_dump({"global": every, "rule_files": [str(path) for path in rules], "scrape_configs": jobs})
    )
    port = next(port for port in random.sample(range(19_500, 19_900), 100) if is_free(port))
    arguments = (
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([_program("prometheus"), *arguments], stdout=log, stderr=log, cwd=folder)
    try:
        server = Prometheus(port)
        eventually(server.is_ready, "Prometheus is ready")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)


def _program(name: str) -> Path:
    found = shutil.which(name) or (_UNPACKED / name if (_UNPACKED / name).exists() else None)
    if found is None:
        pytest.skip(f"{name} is not here: `make promtool` unpacks Debian's, or put one on the PATH")
    return Path(found)
