"""An engine whose drain is over: it gives up each request before its first token, in vLLM's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_USAGE = {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}
_CHOICE = {"index": 0, "finish_reason": "abort", "logprobs": None}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the base class calls it so
        self._say("application/json", b"{}")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = {"id": "c", "created": 1, "model": asked["model"], "usage": _USAGE}
        if asked.get("stream"):
            event = said | {"object": "chat.completion.chunk", "choices": [_CHOICE | {"delta": {"content": ""}}]}
            self._say("text/event-stream", f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())
        else:
            message = {"role": "assistant", "content": ""}
            whole = said | {"object": "chat.completion", "choices": [_CHOICE | {"message": message}]}
            self._say("application/json", json.dumps(whole).encode())

    def _say(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test says what is wrong."""


@contextmanager
def aborting_engine() -> Iterator[str]:
    """Its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
