"""Traces reach a collector, say where time and tokens went, and never what was said."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from serving.traces import Traces
from studio import ids
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, wait_until
from tests.stub_engine import StubEngine

SECRET = "the eagle lands at noon"


@dataclass(slots=True)
class Collector:
    """What was sent to it."""

    url: str
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the base class's name
            received.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not to stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, ThreadPoolExecutor(1) as pool:
        received = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        pool.submit(server.serve_forever)
        try:
            yield received
        finally:
            server.shutdown()


def attributes(span: Span) -> dict[str, str | int | bool]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


def test_a_request_is_three_spans_without_its_content(house: House, engine: StubEngine, tmp_path: Path) -> None:
    with collector() as received:
        settings = {"STUDIO_TRACES_URL": received.url, "STUDIO_TRACES_SHARE": "1"}
        with GatewayProcess(house.database, tmp_path, settings=settings) as gateway:
            body = {"model": CHAT, "messages": [{"role": "user", "content": SECRET}], "max_tokens": 3, "stream": True}
            headers = {"authorization": f"Bearer {house.key.text}"}
            wait_until(lambda: httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200)
            answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers)
            refused = httpx.post(f"{gateway.url}/v1/chat/completions", json=body)
            gateway.stop()
    spans = {span.name: span for span in received.spans}
    root = spans[f"chat/completions {CHAT}"]
    facts = attributes(root)
    assert facts["studio.request_id"] == answer.headers["x-request-id"]
    assert (facts["studio.tenant"], facts["gen_ai.request.model"], facts["studio.stream"]) == ("acme", CHAT, True)
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == (5, 3)
    assert {spans[name].parent_span_id for name in ("admission", "engine")} == {root.span_id}
    assert spans["admission"].end_time_unix_nano == spans["engine"].start_time_unix_nano
    assert [event.name for event in spans["engine"].events] == ["first bytes", "first token"]
    assert attributes(spans["chat/completions"])["http.response.status_code"] == refused.status_code == 401
    everything = b"".join(received.bodies)
    assert SECRET.encode() not in everything
    assert house.key.text.encode() not in everything
    assert b"word" not in everything


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.1, 600, 1400), (1.0, 10_000, 10_000)])
def test_the_share_is_kept(share: float, least: int, most: int) -> None:
    traces = Traces("http://127.0.0.1:1/v1/traces", share)
    sampled = sum(traces.begin(ids.uuid7(), "/v1/chat/completions") is not None for _ in range(10_000))
    assert least <= sampled <= most


def test_without_a_collector_nothing_is_traced() -> None:
    assert Traces(None, 1).begin(ids.uuid7(), "/v1/chat/completions") is None
