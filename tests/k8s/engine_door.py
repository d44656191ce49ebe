"""An engine as its pod shows it: `/health` is well all the time, and requests are answered or not."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_ANSWER = {"id": "c", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


class EngineDoor:
    """On loopback inside the `with` block. It hangs until it is told otherwise."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers = threading.Event()
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the base class calls it so
                self._say({})

            def do_POST(self) -> None:
                door.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                if door._answers.wait(30):
                    with contextlib.suppress(OSError):  # whoever asked has lost its patience
                        self._say(_ANSWER)

            def _say(self, said: dict[str, Any]) -> None:
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test says what is wrong."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self) -> None:
        """From now on."""
        self._answers.set()

    def hang(self) -> None:
        """From now on."""
        self._answers.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answer()
        self._server.shutdown()
        self._server.server_close()
