"""A whole installation for Prometheus to look at: gateway, stub engine, state metrics, exporter, rows of every kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from studio.settings import REPOSITORY
from tests.k8s.exporter.node import ExporterProcess, GpuNode, Kubelet
from tests.local.eventually import eventually
from tests.server import TestDatabase, TestServer, free_port
from tests.serving.conftest import House, furnished, stub_of
from tests.serving.gateway_process import CHAT, CHAT_FAST, GatewayProcess
from tests.stub_engine import StubEngine

ROWS = Path(__file__).with_name("rows.sql")


class StateMetrics:
    """`python -m serving.state_metrics`, answering inside the `with` block."""

    def __init__(self, database: TestDatabase, folder: Path) -> None:
        self.address = f"127.0.0.1:{(port := free_port())}"
        self.log_path = folder / "state.log"
        self._environment = (
            os.environ
            | database.environment("auditor")
            | {"STUDIO_STATE_METRICS_PORT": str(port), "STUDIO_LOG_FORMAT": "json"}
        )

    def __enter__(self) -> Self:
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.state_metrics"],
                cwd=REPOSITORY,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, "the state metrics answer", 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def exposition(self) -> str:
        """What Prometheus would see now."""
        return httpx.get(f"http://{self.address}/metrics", timeout=30, trust_env=False).text

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log_path.read_text()
        try:
            return httpx.get(f"http://{self.address}/healthz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything that is scraped."""

    house: House
    gateway: GatewayProcess
    engine: StubEngine
    state: StateMetrics
    exporter: ExporterProcess
    node: GpuNode

    @property
    def targets(self) -> dict[str, str]:
        """Addresses by the names of their jobs in the chart."""
        return {
            "studio-gateway": self.gateway.internal_url.removeprefix("http://"),
            "studio-state": self.state.address,
            "studio-exporter": self.exporter.address,
            "studio-engine": self.engine.url.removeprefix("http://"),
        }

    def is_used(self) -> None:
        """A few requests of each kind, some of them wrong."""
        with httpx.Client(
            base_url=self.gateway.url, headers={"authorization": f"Bearer {self.house.key.text}"}, trust_env=False
        ) as client:
            for model in (CHAT, CHAT_FAST):
                body = {"model": model, "messages": [{"role": "user", "content": "one two"}], "max_tokens": 5}
                assert client.post("/v1/chat/completions", json=body | {"stream": True}).status_code == 200
                assert client.post("/v1/chat/completions", json=body).status_code == 200
            cached = client.post(
                "/v1/chat/completions", json=body | {"temperature": 0}, headers={"x-studio-cache": "use"}
            )
            assert cached.status_code == 200, cached.text
            assert client.post("/v1/chat/completions", json={"model": "unheard-of"}).status_code >= 400


@contextmanager
def running(server: TestServer, library: Path, folder: Path) -> Iterator[Installation]:
    """All of it."""
    with ExitStack() as stack:
        node = GpuNode(folder, library, cards=4)
        node.cards[3].unavailable_code, node.cards[3].unavailable_reason = 7, b"in maintenance"
        kubelet = Kubelet(folder / "kubelet.sock")
        stack.callback(kubelet.stop)
        kubelet.run("engines", f"{CHAT}-0", "GPU-0000", "GPU-0001")
        workloads = folder / "workloads.json"
        workloads.write_text(json.dumps([{"namespace": "engines", "pod": "*", "variant": CHAT, "tenant": "acme"}]))
        house = stack.enter_context(furnished(server))
        engine = stack.enter_context(stub_of(house))
        gateway = stack.enter_context(
            GatewayProcess(house.database, folder, settings={"STUDIO_CROSS_CHECK_SHARE": "1"})
        )
        with house.database.superuser() as connection:
            connection.execute(ROWS.read_text())
        exporter = ExporterProcess(node, workloads=workloads)
        stack.callback(exporter.end)
        state = stack.enter_context(StateMetrics(house.database, folder))
        yield Installation(house, gateway, engine, state, exporter, node)
