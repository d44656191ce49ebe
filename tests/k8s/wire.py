"""A wire to a server that can be cut: what an API server that is away looks like to those who talk to it."""

from __future__ import annotations

import contextlib
import socket
import threading


class Wire:
    """Passes bytes to a port of loopback while it is whole. Cut, it ends every connection and takes no new one."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: list[socket.socket] = []
        self._is_whole = True
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._take, daemon=True).start()

    def cut(self) -> None:
        """From now on nobody answers."""
        self._is_whole = False
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """From now on it is as before."""
        self._is_whole = True

    def close(self) -> None:
        """At the end."""
        self.cut()
        self._door.close()

    def _take(self) -> None:
        while True:
            try:
                caller, _ = self._door.accept()
            except OSError:
                return
            if not self._is_whole:
                caller.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [caller, server]
            for source, sink in ((caller, server), (server, caller)):
                threading.Thread(target=_pass, args=(source, sink), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
