"""The process: /metrics and /healthz on one port, until a signal says to stop."""

from __future__ import annotations

import json
import signal
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from serving.state_metrics.collector import StateCollector
from studio import logs
from studio.db.sessions import engine_for
from studio.settings import SettingMissing, settings

KEEP_FOR = timedelta(seconds=10)  # a reading takes 18 ms of CPU, benchmarks/scrape.py

log = structlog.get_logger()


class StateServer(ThreadingHTTPServer):
    """Bound when made; OSError when the port is taken."""

    daemon_threads = True

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        super().__init__((host, port), _Handler)
        self.registry = registry


class _Handler(BaseHTTPRequestHandler):
    server: StateServer
    timeout = 10

    def do_GET(self) -> None:
        if self.path.split("?")[0] == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))
        elif self.path == "/healthz":  # a database that is away is a metric, and no reason to start this anew
            self._answer(200, "application/json", json.dumps({"status": "live"}).encode())
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


def main() -> None:
    """The process."""
    config = settings()
    logs.configure(config.log_format, config.log_level, whole_process=True)
    try:
        auditor = engine_for(config.database_url("auditor"), pool_size=1)
    except SettingMissing as error:
        raise SystemExit(error.message) from error
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(StateCollector(auditor, KEEP_FOR))
    server = StateServer(config.state_metrics_host, config.state_metrics_port, registry)

    def stop(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()  # it waits for the loop that this signal interrupts

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info("state_metrics_started", port=server.server_address[1])
    server.serve_forever()
    server.server_close()
    auditor.dispose()
    log.info("state_metrics_stopped")


if __name__ == "__main__":
    main()
