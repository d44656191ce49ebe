"""An engine of a test that says what the test writes: `with odd_engine(script) as url`.

The script gets the request's body and its caller; when it returns, the connection ends.
"""

from __future__ import annotations

import json
import select
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


class Caller:
    """Who asks an odd engine."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler

    def send(self, data: bytes) -> None:
        """A part of the answer, its head included."""
        self._handler.wfile.write(data)

    @property
    def has_hung_up(self) -> bool:
        """Whether its half of the connection has ended by now."""
        return bool(select.select([self._handler.connection], [], [], 0)[0])

    def wait_until_it_hangs_up(self) -> None:
        """Until its half of the connection, or all of it, has ended."""
        with suppress(OSError):
            assert self._handler.rfile.read(1) == b""


Script = Callable[[dict[str, Any], Caller], None]


@contextmanager
def odd_engine(script: Script, certificate: Path | None = None) -> Iterator[str]:
    """Its address: https if it has a certificate, which must be that of `localhost`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            script(json.loads(self.rfile.read(int(self.headers["content-length"]))), Caller(self))
            self.close_connection = True

        def do_GET(self) -> None:
            body = b'{"object":"list","data":[{"id":"stub"}]}'
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.wfile.write(head + body)

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'http://127.0.0.1' if certificate is None else 'https://localhost'}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chunk(written: int | None, *, finish: str | None = None, **delta: str) -> bytes:
    """One event of a chat, as vLLM writes it; `written` is its running usage."""
    usage = None if written is None else usage_of(written)
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({**_HEAD, "choices": [choice], **({} if usage is None else {"usage": usage})})


def closing(written: int, cached: int = 0) -> bytes:
    """The last event of a chat, with what was used."""
    return event(
        {**_HEAD, "choices": [], "usage": usage_of(written) | {"prompt_tokens_details": {"cached_tokens": cached}}}
    )


def usage_of(written: int) -> dict[str, Any]:
    """Of a prompt of three tokens."""
    return {"prompt_tokens": 3, "total_tokens": 3 + written, "completion_tokens": written}


def event(content: dict[str, Any]) -> bytes:
    """As it stands in a stream."""
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def whole(finish: str, written: int) -> bytes:
    """A chat that does not stream, with its head."""
    message = {"role": "assistant", "content": "word " * written}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    content = {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": usage_of(written)}
    body = json.dumps(content, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


_HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "stub"}
