"""An engine that does not speak as it should: the caller gets an end, and pays for what was right before it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.serving.ledger import events

CHUNK = {
    "id": "x",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "stub",
    "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}],
    "usage": {"prompt_tokens": 3, "total_tokens": 4, "completion_tokens": 1},
}
BROKEN_STREAM = b"data: " + json.dumps(CHUNK).encode() + b"\n\ndata: {broken\n\n"
WITHOUT_USAGE = json.dumps(
    {"id": "x", "object": "chat.completion", "created": 1, "model": "stub", "choices": []}
).encode()


@contextmanager
def engine_that_answers(content_type: str, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(gateway: GatewayProcess, key: CreatedKey, stream: bool) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {key.text}"},
        json={"model": CHAT, "messages": [{"role": "user", "content": "hi"}], "stream": stream},
        timeout=20,
    )


@pytest.fixture
def started(own_gateway: GatewayProcess) -> GatewayProcess:
    own_gateway.start()
    return own_gateway


def test_a_broken_event_ends_the_stream_with_an_error_and_bills_what_was_before(
    started: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with engine_that_answers("text/event-stream", BROKEN_STREAM) as url:
        attach(operator, url)
        wait_until(lambda: ask(started, api_key, stream=True).status_code == 200, seconds=5)
        content = ask(started, api_key, stream=True).text
    assert '"error"' in content
    assert content.endswith("data: [DONE]\n\n")
    wait_until(lambda: len(events(database)) >= 2, seconds=10)
    assert {(event.completion_tokens, event.end_reason) for event in events(database)} == {(1, "engine_died")}


def test_an_answer_without_usage_is_refused_and_not_billed(
    started: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with engine_that_answers("application/json", WITHOUT_USAGE) as url:
        attach(operator, url)
        wait_until(lambda: "cannot be read" in ask(started, api_key, stream=False).text, seconds=5)
    started.stop()
    assert events(database) == []


@pytest.mark.parametrize("body", [b"[1", b'{"count": null, "tokens": []}'])
def test_a_count_that_cannot_be_read_is_503(
    started: GatewayProcess, operator: Engine, api_key: CreatedKey, body: bytes
) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}]},
        "/v1/responses/input_tokens": {"input": "hi"},
        "/v1/tokenize": {"prompt": "hi"},
    }
    headers = {"authorization": f"Bearer {api_key.text}"}

    def count(path: str) -> httpx.Response:
        return httpx.post(f"{started.url}{path}", json={"model": CHAT} | asked[path], headers=headers, timeout=20)

    with engine_that_answers("application/json", body) as url:
        attach(operator, url)
        wait_until(lambda: "cannot be read" in count("/v1/tokenize").text, seconds=5)
        assert [count(path).status_code for path in asked] == [503] * 3
