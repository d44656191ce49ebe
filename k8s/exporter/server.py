"""/metrics and /healthz. Plain HTTP on one port; whoever may reach it is a matter of the network policy."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from k8s.exporter.exposition import CardCollector, ScrapeCost
from k8s.exporter.sampler import Sampler
from k8s.exporter.settings import Settings


class ExporterServer(ThreadingHTTPServer):
    """Bound when made; OSError when the port is taken."""

    daemon_threads = True

    def __init__(self, settings: Settings, sampler: Sampler) -> None:
        super().__init__((settings.host, settings.port), _Handler)
        self.cost = ScrapeCost()
        self.registry = CollectorRegistry()
        self._sampler = sampler
        self._stale_after = settings.stale_after_seconds
        self._began = time.monotonic()
        ProcessCollector(registry=self.registry)
        self.registry.register(CardCollector(sampler, settings.host_label, self._stale_after, self.cost))

    def exposition(self) -> bytes:
        """What /metrics answers; its own cost is part of the next answer."""
        began, cpu = time.perf_counter(), time.thread_time()
        text = generate_latest(self.registry)
        self.cost.add(time.perf_counter() - began, time.thread_time() - cpu)
        return text

    def health(self) -> tuple[int, dict[str, object]]:
        """503 when no pass has ended for long: it hangs in the driver. A driver or card that is away is a metric."""
        snapshot = self._sampler.snapshot
        age = time.monotonic() - (snapshot.ended_monotonic if snapshot else self._began)
        body: dict[str, object] = {
            "status": "stuck" if age > self._stale_after else "live",
            "last_sample_seconds_ago": round(age, 1),
            "source": snapshot.source if snapshot else None,
        }
        return (503 if age > self._stale_after else 200), body


class _Handler(BaseHTTPRequestHandler):
    server: ExporterServer
    timeout = 10

    def do_GET(self) -> None:
        if self.path.split("?")[0] == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, self.server.exposition())
        elif self.path == "/healthz":
            status, body = self.server.health()
            self._answer(status, "application/json", json.dumps(body).encode())
        else:
            self._answer(404, "text/plain", b"/metrics or /healthz\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are no events."""
