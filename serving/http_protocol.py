"""HTTP as clients really speak it, where uvicorn's reading of it would leave some of them without an answer.

- Java's HTTP client asks for HTTP/2 with every request to a plain address (`Upgrade: h2c`). A server that cannot may go
  on with HTTP/1.1 (RFC 9110, 7.8); uvicorn goes on without the body.
- An HTTP/1.0 client knows no chunks: an answer of unknown length ends with its connection.
- What is no HTTP is refused in our envelope, and a head has a bound.
"""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving import envelope
from serving.tokens.client import Message
from serving.tokens.request import request_id
from studio import ids
from studio.errors import InvalidRequest, PayloadTooLarge, StudioError

MOST_HEAD_BYTES = 64 * 1024
# Longer than proxies and clients keep an idle connection, so that none uses one at the moment at which it ends here:
# nginx, Kong and AWS 60 s, Go 90 s. uvicorn's 5 s are those of Python's client to the very second.
KEEP_ALIVE_SECONDS = 120


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _reads_head = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            self._go_on_as_it_is(data[asked.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(InvalidRequest(f"This is no valid HTTP request: {str(error) or 'unreadable'}."))
        else:
            if self._reads_head:
                self._head_bytes += len(data)
                if self._head_bytes > MOST_HEAD_BYTES:
                    too_large = f"The request's headers are larger than {MOST_HEAD_BYTES} bytes. Send less in them."
                    self._refuse(PayloadTooLarge(too_large))

    def on_message_begin(self) -> None:
        self._reads_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._reads_head = False
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and not self.parser.should_upgrade():
            _end_with_connection(self.cycle)

    def _should_upgrade(self) -> bool:
        """Whether what has been read is to be left alone until `_go_on_as_it_is` reads it again."""
        return True

    def _go_on_as_it_is(self, rest: bytes) -> None:
        """The same request, as one that asks for no other protocol. `rest` follows its head."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(InvalidRequest("This is no proxy: CONNECT is not spoken here."))
            return
        head = [method, b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in (b"upgrade", b"http2-settings"):
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.data_received(b"".join(head) + b"\r\n" + rest)

    def _refuse(self, error: StudioError) -> None:
        """The last that this connection hears. Not in the middle of an answer."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = envelope.body_of(error)
            headers = [
                *envelope.headers_of(error),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id(ids.uuid7()).encode()),
                (b"connection", b"close"),
            ]
            head = b"".join(b"%s: %s\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[error.status] + head + b"\r\n" + body)
        self.transport.close()


def _end_with_connection(cycle: RequestResponseCycle) -> None:
    """Of the answers to a client that knows no chunks, those whose length is not known."""
    send, is_open_ended = cycle.send, False

    async def send_without_chunks(message: Message) -> None:
        nonlocal is_open_ended
        if message["type"] == "http.response.start":
            is_open_ended = not any(name == b"content-length" for name, _ in message["headers"])
            if is_open_ended:
                cycle.chunked_encoding = False
        elif is_open_ended:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)  # type: ignore[arg-type]  # uvicorn's own names for ASGI's types

    sending: Any = send_without_chunks
    cycle.send = sending  # type: ignore[method-assign]  # of this one cycle
