"""Server: HTTP/1.1 connections and the pace at which tokens leave. What the tokens look like is `answer.py`.

asyncio.Protocol, httptools and uvloop, because the stub must be much cheaper than what is measured in front of it."""

import asyncio
from dataclasses import dataclass
from typing import Final, cast

import httptools
import msgspec

from benchmarks.stub_engine import answer
from benchmarks.stub_engine.counters import Counters
from benchmarks.stub_engine.request import Generation, Reader

JSON_TYPE: Final = "application/json"
METRICS_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
STREAM_END: Final = b"0\r\n\r\n"
PATHS: Final = (
    *(b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/health", b"/v1/models", b"/metrics"),
    *(b"/v1/rerank", b"/v1/score", b"/tokenize", b"/detokenize"),
    *(b"/v1/load_lora_adapter", b"/v1/unload_lora_adapter"),
)
REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How this engine acts: `tokens_per_second` is the pace of one request (None: as fast as the socket takes them, and
    `tokens_per_write` then leave together, between two looks at whether the client is still there),
    `die_after_tokens` cuts the connection of a request after so many (None: never)."""

    model: str = "stub"
    tokens_per_second: float | None = None
    tokens_per_write: int = 16
    die_after_tokens: int | None = None
    cached_tokens: int = 0
    remembers_prompts: bool = False  # and says of a completion's prompt that comes again that it was cached
    writes_always: int | None = None  # so many tokens for each choice, whatever limit was sent


class Engine:
    """What all connections share."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        seen: set[tuple[str | None, str]] | None = set() if behaviour.remembers_prompts else None
        self.reader = Reader(behaviour.model, behaviour.cached_tokens, seen, behaviour.writes_always)
        self.counters = Counters()
        self.adapters: dict[str, str] = {}  # paths by name


class Connection(asyncio.Protocol):
    """One client connection: requests one after the other, kept alive."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._production: Production | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def eof_received(self) -> None:
        """As under uvicorn a half-closed connection ends its request, what was written is flushed, then it closes. So a
        client that reads on after its own end sees exactly the tokens that were counted."""
        self._client_left()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_left()

    def pause_writing(self) -> None:
        if self._production is not None:
            self._production.pause()

    def resume_writing(self) -> None:
        if self._production is not None:
            self._production.resume()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._production is not None:  # a pipelined request: no client of an engine sends one
            self._transport.close()
            return
        method, path = self._parser.get_method(), self._url.partition(b"?")[0]
        try:
            self._serve(method, path, b"".join(self._body))
        except msgspec.DecodeError as refused:
            self._respond(400, JSON_TYPE, answer.error(400, "BadRequestError", str(refused)))

    def _serve(self, method: bytes, path: bytes, body: bytes) -> None:
        engine = self._engine
        match method, path:
            case b"POST", b"/v1/chat/completions":
                asked = engine.reader.chat(body)
                self._produce(asked, answer.ChatAnswer(asked))
            case b"POST", b"/v1/completions":
                asked = engine.reader.completion(body)
                self._produce(asked, answer.CompletionAnswer(asked))
            case b"POST", b"/v1/embeddings":
                embedding = engine.reader.embedding(body)
                engine.counters.prompt_tokens += embedding.prompt_tokens
                self._respond(200, JSON_TYPE, answer.embeddings(embedding))
            case b"POST", b"/v1/rerank":
                comparison = engine.reader.rerank(body)
                engine.counters.prompt_tokens += comparison.prompt_tokens
                self._respond(200, JSON_TYPE, answer.rerank(comparison))
            case b"POST", b"/v1/score":
                comparison = engine.reader.score(body)
                engine.counters.prompt_tokens += comparison.prompt_tokens
                self._respond(200, JSON_TYPE, answer.score(comparison))
            case b"POST", b"/tokenize":
                self._respond(200, JSON_TYPE, answer.tokens(*engine.reader.tokenize(body)))
            case b"POST", b"/detokenize":
                self._respond(200, JSON_TYPE, answer.text(engine.reader.detokenize(body)))
            case b"POST", b"/v1/load_lora_adapter":
                adapter = msgspec.json.decode(body, type=dict[str, str])
                engine.adapters[adapter["lora_name"]] = adapter["lora_path"]
                self._respond(200, JSON_TYPE, b"Success")
            case b"POST", b"/v1/unload_lora_adapter":
                engine.adapters.pop(msgspec.json.decode(body, type=dict[str, str])["lora_name"], None)
                self._respond(200, JSON_TYPE, b"Success")
            case b"GET", b"/health":
                self._respond(200, JSON_TYPE, b"")
            case b"GET", b"/v1/models":
                self._respond(200, JSON_TYPE, answer.models(engine.behaviour.model, engine.adapters))
            case b"GET", b"/metrics":
                self._respond(200, METRICS_TYPE, engine.counters.exposition(engine.behaviour.model))
            case _ if path in PATHS:
                self._respond(405, JSON_TYPE, answer.error(405, "MethodNotAllowedError", "Method Not Allowed"))
            case _:
                self._respond(404, JSON_TYPE, answer.error(404, "NotFoundError", "Not Found"))

    def _client_left(self) -> None:
        if self._production is not None:
            self._production.stop()
            self._production = None

    def _produce(self, asked: Generation, parts: answer.Answer) -> None:
        self._production = Production(self, self._engine, asked, parts)
        self._production.start()

    # what a production says

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def finish(self) -> None:
        self._production = None
        if not self._parser.should_keep_alive():
            self._transport.close()

    def die(self) -> None:
        """Closed, not aborted: what was written still arrives, as from a killed process."""
        self._production = None
        self._transport.close()

    def _respond(self, status: int, content_type: str, body: bytes) -> None:
        self._transport.write(response(status, content_type, body))
        self.finish()


class Production:
    """One generation under way. It stops at its end, at the engine's death, or when the client has left."""

    def __init__(self, connection: Connection, engine: Engine, asked: Generation, parts: answer.Answer) -> None:
        self._connection = connection
        self._counters = engine.counters
        self._tokens_per_second = engine.behaviour.tokens_per_second
        self._tokens_per_write = engine.behaviour.tokens_per_write
        self._asked = asked
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._produced = 0
        self._paused = False
        self._timer: asyncio.Handle | None = None
        deadly = engine.behaviour.die_after_tokens
        self._dies = deadly is not None and deadly < asked.completion_tokens
        self._last = deadly if deadly is not None and self._dies else asked.completion_tokens

    def start(self) -> None:
        self._counters.requests_running += 1
        # As vLLM: the prompt once for each choice here, once in `usage`.
        self._counters.prompt_tokens += self._asked.prompt_tokens * self._asked.choices // len(self._asked.prompts)
        self._counters.cached_tokens += self._asked.cached_tokens
        self._started = self._loop.time()
        if self._asked.stream:
            self._connection.write(STREAM_HEAD + b"".join(map(frame, self._parts.opening())))
        if self._asked.stream or self._tokens_per_second is None:
            self._advance()
        else:
            self._wait()

    def stop(self) -> None:
        """The client has left."""
        self._catch_up_unseen()
        self._end()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._timer is None:
            self._wait()

    def _advance(self) -> None:
        self._timer = None
        due = self._due()
        if self._asked.stream:
            self._connection.write(b"".join(frame(self._parts.token(k)) for k in range(self._produced, due)))
        self._counters.generation_tokens += due - self._produced
        self._produced = due
        if self._produced < self._last:
            if not self._paused:
                self._wait()
            return
        self._end()
        if self._dies:
            self._connection.die()
            return
        if self._asked.stream:
            self._connection.write(b"".join(map(frame, self._parts.closing())) + STREAM_END)
        else:
            self._connection.write(response(200, JSON_TYPE, self._parts.whole()))
        self._connection.finish()

    def _due(self) -> int:
        """The number of tokens that should have left by now: the first at once, the others at their pace."""
        if self._tokens_per_second is not None:
            elapsed = self._loop.time() - self._started
            return min(self._last, 1 + int(elapsed * self._tokens_per_second + 1e-6))
        if self._asked.stream:
            return min(self._last, self._produced + self._tokens_per_write)
        return self._last

    def _wait(self) -> None:
        if self._tokens_per_second is None:
            self._timer = self._loop.call_soon(self._advance)
            return
        # An answer that does not stream needs no look at the socket before its end.
        before_next = self._produced if self._asked.stream else self._last - 1
        self._timer = self._loop.call_at(self._started + before_next / self._tokens_per_second, self._advance)

    def _catch_up_unseen(self) -> None:
        """A request that does not stream has produced tokens that nobody will see; the engine counts them."""
        if not self._asked.stream:
            self._counters.generation_tokens += self._due() - self._produced

    def _end(self) -> None:
        self._counters.requests_running -= 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def frame(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def response(status: int, content_type: str, body: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nserver: uvicorn\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def serve(behaviour: Behaviour, port: int) -> asyncio.Server:
    """Listens on loopback; port 0 takes a free one."""
    engine = Engine(behaviour)
    return await asyncio.get_running_loop().create_server(lambda: Connection(engine), "127.0.0.1", port, backlog=4096)
