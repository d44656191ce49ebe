"""Traces: off unless a collector is set, sampled, and without any content: names, numbers and times only.

A sampled request keeps a few instants while it runs; its spans are made from them when it has ended, so that nothing of
this stands between an engine and its caller. Attributes are OpenTelemetry's `gen_ai.*`, else `studio.*`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from serving.tokens.usage import TokenCounts
from studio import clock

if TYPE_CHECKING:  # importing the SDK costs 100 ms that a gateway without traces saves
    from opentelemetry.sdk.trace import TracerProvider

_ALL = 1 << 32


@dataclass(slots=True)
class Timeline:
    """What a sampled request has come to know of itself."""

    endpoint: str
    model: str | None = None
    variant_id: str | None = None
    tier: str | None = None
    tenant: str | None = None
    is_stream: bool = False
    admitted_at: datetime | None = None
    answered_at: datetime | None = None  # when an engine's first bytes, or its whole answer, were there
    first_token_at: datetime | None = None
    replica_id: UUID | None = None
    counts: TokenCounts | None = None


class Traces:
    """Spans of one gateway."""

    def __init__(self, url: str | None, share: float) -> None:
        self._sampled = int(share * _ALL) if url else 0
        self._provider = _provider(url) if self._sampled and url else None

    def begin(self, id: UUID, endpoint: str) -> Timeline | None:
        """A timeline for a request that is sampled: by its own random bits, so nobody outside can ask to be."""
        if (id.int & (_ALL - 1)) >= self._sampled:
            return None
        return Timeline(endpoint)

    def end(self, timeline: Timeline, id: UUID, started_at: datetime, status: int) -> None:
        """Make the spans of a request that has just ended."""
        assert self._provider is not None  # nothing is sampled otherwise
        from opentelemetry import trace

        tracer, ended_at = self._provider.get_tracer("studio.gateway"), clock.now()
        name = f"{timeline.endpoint.rpartition('/v1/')[2]} {timeline.model or ''}".strip()
        root = tracer.start_span(name, kind=trace.SpanKind.SERVER, start_time=_ns(started_at))
        root.set_attributes({name: value for name, value in _facts(timeline, id, status).items() if value is not None})
        if status >= 500:
            root.set_status(trace.StatusCode.ERROR)
        context = trace.set_span_in_context(root)
        if timeline.admitted_at is not None:
            admission = tracer.start_span("admission", context, start_time=_ns(started_at))
            admission.end(_ns(timeline.admitted_at))
            engine = tracer.start_span("engine", context, trace.SpanKind.CLIENT, start_time=_ns(timeline.admitted_at))
            if timeline.replica_id is not None:
                engine.set_attribute("studio.replica", str(timeline.replica_id))
            if timeline.answered_at is not None:
                engine.add_event("first bytes", timestamp=_ns(timeline.answered_at))
            if timeline.first_token_at is not None:
                engine.add_event("first token", timestamp=_ns(timeline.first_token_at))
            engine.end(_ns(ended_at))
        root.end(_ns(ended_at))

    def close(self) -> None:
        """Send what has not been sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


def _provider(url: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "studio-gateway"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, timeout=5)))
    return provider


def _facts(timeline: Timeline, id: UUID, status: int) -> dict[str, str | int | bool | None]:
    counts = timeline.counts
    return {
        "http.request.method": "POST",
        "url.path": timeline.endpoint,
        "http.response.status_code": status,
        "gen_ai.request.model": timeline.model,
        "gen_ai.usage.input_tokens": counts.prompt if counts else None,
        "gen_ai.usage.output_tokens": counts.completion if counts else None,
        "studio.request_id": f"req_{id.hex}",
        "studio.tenant": timeline.tenant,
        "studio.variant": timeline.variant_id,
        "studio.tier": timeline.tier,
        "studio.stream": timeline.is_stream,
        "studio.cached_tokens": counts.cached if counts else None,
        "studio.reused_tokens": counts.reused if counts else None,
    }


def _ns(instant: datetime) -> int:
    return round(instant.timestamp() * 1_000_000) * 1_000
