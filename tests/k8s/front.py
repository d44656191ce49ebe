"""A door in front of an API server that can fail it: 500s and answers that do not come, beside those that do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from tests.k8s.control_plane import ControlPlane

Mood = Literal["well", "failing", "silent"]


class Front:
    """Speaks HTTP on loopback. `mood(n)` says how the n-th request from now on is met."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._mood: Callable[[int], Mood] = lambda _: "well"
        self._asked = 0
        self._ended = threading.Event()
        front = self

        class Door(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length) if length else None
                mood = front._next_mood()
                if mood == "silent":
                    front._ended.wait(30)
                    self.close_connection = True
                    return
                status, kind, answer = front._of(mood, self.command, self.path, body)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815  # the base class calls them so

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test says what is wrong."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def be(self, mood: Callable[[int], Mood]) -> None:
        """From now on."""
        self._asked, self._mood = 0, mood

    def close(self) -> None:
        """At the end."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _next_mood(self) -> Mood:
        self._asked += 1
        return self._mood(self._asked)

    def _of(self, mood: Mood, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        if mood == "failing":
            said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "leader changed", "code": 500}
            return 500, "application/json", json.dumps(said).encode()
        return self._plane.forward(method, path, body)
