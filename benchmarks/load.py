"""Load generator: C keep-alive connections in a closed loop, every answer checked whole: status, number of events,
`[DONE]`, usage. A figure from answers that nobody checked may be the speed of an error page.

Raw asyncio with httptools, since one HTTP client library costs more than the gateway it should measure. Alone:
`python -m benchmarks.load --url http://127.0.0.1:8080 --model smollm2-135m-instruct --connections 32 --stream`."""

import argparse
import asyncio
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from time import perf_counter  # uvloop's own clock has a resolution of 1 ms
from typing import Final, cast
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

from benchmarks.process import cpu_seconds

CHAT_PATH: Final = "/v1/chat/completions"
PROMPT: Final = "word " * 32


@dataclass(frozen=True, slots=True)
class Target:
    """A server that speaks OpenAI's chat API."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"{self.url} is no http:// address")
        return parts.hostname, parts.port or 80


@dataclass(frozen=True, slots=True)
class Workload:
    """One request, repeated; an engine that stops before `max_tokens` fails the check."""

    max_tokens: int
    stream: bool

    def request(self, target: Target) -> bytes:
        body: dict[str, object] = {
            "model": target.model,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": self.max_tokens,
        }
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        payload = orjson.dumps(body)
        lines = [
            f"POST {CHAT_PATH} HTTP/1.1",
            f"host: {urlsplit(target.url).netloc}",
            "content-type: application/json",
            f"content-length: {len(payload)}",
        ]
        if target.key is not None:
            lines.append(f"authorization: Bearer {target.key}")
        return "\r\n".join([*lines, "", ""]).encode() + payload


@dataclass(frozen=True, slots=True)
class Measurement:
    """One cell: `*_ms` are percentiles over requests, except the gaps, which are over the chunks of a stream."""

    seconds: float
    requests: int
    requests_per_second: float
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    ttft_ms_p50: float | None  # to the first token, not to the role chunk; streams only
    ttft_ms_p99: float | None
    chunks: int  # tokens' chunks; role and usage chunks are not counted
    chunks_per_second: float
    gap_ms_p50: float | None
    gap_ms_p99: float | None
    server_cpu_seconds: float | None
    faults: dict[str, int]


@dataclass(slots=True)
class _Recorder:
    """Keeps what falls into the measured window; before it is warm-up."""

    open: bool = False
    latencies: list[float] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    chunks: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def measurement(self, seconds: float, server_cpu_seconds: float | None) -> Measurement:
        return Measurement(
            seconds=round(seconds, 3),
            requests=len(self.latencies),
            requests_per_second=round(len(self.latencies) / seconds, 2),
            latency_ms_p50=_percentile_ms(self.latencies, 0.50),
            latency_ms_p99=_percentile_ms(self.latencies, 0.99),
            ttft_ms_p50=_percentile_ms(self.ttfts, 0.50),
            ttft_ms_p99=_percentile_ms(self.ttfts, 0.99),
            chunks=self.chunks,
            chunks_per_second=round(self.chunks / seconds, 1),
            gap_ms_p50=_percentile_ms(self.gaps, 0.50),
            gap_ms_p99=_percentile_ms(self.gaps, 0.99),
            server_cpu_seconds=server_cpu_seconds,
            faults=dict(self.faults),
        )


class _Client(asyncio.Protocol):
    """One connection: sends, checks the answer, sends again."""

    def __init__(self, workload: Workload, request: bytes, recorder: _Recorder) -> None:
        self._workload = workload
        self._request = request
        self._recorder = recorder
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        self._transport.abort()

    def _send(self) -> None:
        self._body = b""
        self._events = 0
        self._last_events: list[bytes] = []
        self._previous_chunk_at: float | None = None
        self._sent_at = perf_counter()
        self._transport.write(self._request)

    # httptools' callbacks

    def on_body(self, body: bytes) -> None:
        self._body += body
        if not self._workload.stream:
            return
        *events, self._body = self._body.split(b"\n\n")
        for event in events:
            self._events += 1
            # The first event is the role, and two follow the last token: neither is a token's chunk.
            if 1 < self._events <= 1 + self._workload.max_tokens:
                self._token_arrived()
            else:
                self._last_events.append(event)

    def on_message_complete(self) -> None:
        fault = self._fault()
        if self._recorder.open:
            if fault is None:
                self._recorder.latencies.append(perf_counter() - self._sent_at)
            else:
                self._recorder.faults[fault] += 1
        if self._parser.should_keep_alive():
            self._send()
        else:
            self._transport.close()

    def _token_arrived(self) -> None:
        now = perf_counter()
        if self._recorder.open:
            self._recorder.chunks += 1
            if self._previous_chunk_at is None:
                self._recorder.ttfts.append(now - self._sent_at)
            else:
                self._recorder.gaps.append(now - self._previous_chunk_at)
        self._previous_chunk_at = now

    def _fault(self) -> str | None:
        status = self._parser.get_status_code()
        if status != 200:
            return f"status {status}"
        if not self._workload.stream:
            return self._usage_fault(self._body)
        if self._body or self._events != 1 + self._workload.max_tokens + 2:
            return "number of events"
        _role, usage, done = self._last_events
        if done != b"data: [DONE]":
            return "no [DONE] at the end"
        return self._usage_fault(usage.removeprefix(b"data: "))

    def _usage_fault(self, body: bytes) -> str | None:
        usage = orjson.loads(body).get("usage") or {}
        right = usage.get("completion_tokens") == self._workload.max_tokens and usage.get("prompt_tokens", 0) > 0
        return None if right else "usage"


async def closed_loop(
    target: Target,
    workload: Workload,
    *,
    connections: int,
    seconds: float,
    warmup_seconds: float = 0.5,
    server_pids: tuple[int, ...] = (),
) -> Measurement:
    """A connection that the server closes is a fault and is opened again. Connections start spread over the warm-up, so
    that paced streams do not tick together."""
    loop = asyncio.get_running_loop()
    host, port = target.address
    request = workload.request(target)
    recorder = _Recorder()

    async def keep_open(index: int) -> None:
        await asyncio.sleep(warmup_seconds * index / connections)
        while True:
            _, client = await loop.create_connection(lambda: _Client(workload, request, recorder), host, port)
            try:
                await client.closed
            finally:
                client.close()
            if recorder.open:
                recorder.faults["connection closed"] += 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep_open(index)) for index in range(connections)]
        await asyncio.sleep(warmup_seconds)
        recorder.open = True
        started, cpu_before = perf_counter(), cpu_seconds(server_pids)
        await asyncio.sleep(seconds)
        recorder.open = False
        measured_seconds, server_cpu = perf_counter() - started, cpu_seconds(server_pids) - cpu_before
        for task in tasks:
            task.cancel()
    return recorder.measurement(measured_seconds, round(server_cpu, 2) if server_pids else None)


def _percentile_ms(seconds: list[float], share: float) -> float | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--key", default=os.environ.get("STUDIO_API_KEY"), help="default: $STUDIO_API_KEY")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--stream", action="store_true")
    arguments = parser.parse_args()
    measurement = uvloop.run(
        closed_loop(
            Target(arguments.url, arguments.model, arguments.key),
            Workload(max_tokens=arguments.max_tokens, stream=arguments.stream),
            connections=arguments.connections,
            seconds=arguments.seconds,
        )
    )
    print(json.dumps(asdict(measurement), indent=1))
    if measurement.faults or not measurement.requests:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
