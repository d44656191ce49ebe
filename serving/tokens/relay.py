"""One engine's answer on its way to the caller: rewritten, metered, and recorded before its last byte leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog

from serving.budgets.book import Reservation
from serving.cross_check.sample import Sample
from serving.engines import Answer, ReplicaGone
from serving.envelope import Headers
from serving.fleet.view import Replica, Variant
from serving.gateway import Gateway
from serving.journal import JournalBroken
from serving.keys import KeyRecord
from serving.limits.limiter import Lease
from serving.routing import Target
from serving.tokens import answers
from serving.tokens.answers import Dialect
from serving.tokens.client import Client
from serving.tokens.patching import EventPatcher
from serving.tokens.usage import StreamMeter, TokenCounts, read_usage
from serving.tokens.weighing import work_of
from serving.tokens.wire import Call, cache_salt, engine_body
from serving.traces import Timeline
from serving.usage_event import EndReason, UsageEvent
from studio import clock, ids
from studio.errors import ServiceUnavailable, StudioError

JSON: Headers = [(b"content-type", b"application/json")]
EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events otherwise
]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Request:
    """Everything about a request that is known before an engine is asked."""

    id: UUID
    started_at: datetime
    caller: KeyRecord
    call: Call
    target: Target
    dialect: Dialect
    lease: Lease | None = None  # of a caller that has limits
    reservation: Reservation | None = None  # where a budget holds
    tag: str | None = None  # the caller's own word for what it is for
    timeline: Timeline | None = None  # of a request that is traced
    sample: Sample | None = None  # of a request that is counted again

    @property
    def variant(self) -> Variant:
        """What is metered and priced."""
        return self.target.variant

    @property
    def headers(self) -> Headers:
        """What a good answer carries."""
        return [] if self.lease is None else self.lease.headers


class Relay:
    """The way of one request from engine to caller."""

    def __init__(
        self,
        gateway: Gateway,
        client: Client,
        request: Request,
        keep: Callable[[Request, dict[str, Any] | None], Awaitable[None]],
    ) -> None:
        self._gateway = gateway
        self._keep = keep
        self._client = client
        self._request = request
        self._answer: Answer | None = None

    async def run(self) -> None:
        """Until the last byte. StudioError only as long as the caller has not received the first."""
        request, call = self._request, self._request.call
        salt = cache_salt(self._gateway.cache_salt_key, request.caller.tenant_id, call.client_salt)

        def body_for(replica: Replica) -> bytes:
            affordable = request.reservation.max_tokens if request.reservation else None
            return engine_body(call, request.target, replica, salt, affordable)

        self._client.watch(self._client_left)
        answer = await self._gateway.engines.ask(
            self._gateway.view.fleet,
            request.target,
            call.endpoint.engine_path,
            body_for,
            work_of(call, request.target, salt),
            stream=call.stream,
        )
        if request.timeline is not None:
            request.timeline.answered_at, request.timeline.replica_id = clock.now(), answer.replica.id
        try:
            if answer.status != 200:
                raise answers.engine_error(answer.status, answer.first, request.target, answer.replica)
            await (self._stream(answer) if call.stream else self._whole(answer))
        finally:
            self._client.stop_watching()
            self._answer = None
            answer.close()

    def _client_left(self) -> None:
        if self._answer is not None:
            self._answer.half_close()

    async def _whole(self, answer: Answer) -> None:
        try:
            content = orjson.loads(answer.first)
            counts = read_usage(content["usage"], self._request.call.choices_per_prompt)
        except (ValueError, KeyError, TypeError) as error:
            log.error("engine_answer_unreadable", replica=str(answer.replica.id), request=request_id(self._request.id))
            raise ServiceUnavailable(
                "The engine gave an answer that cannot be read; it is not billed.", retry_after=timedelta(seconds=1)
            ) from error
        if self._request.sample is not None:
            self._request.sample.observe(content)
        await self._record(answer.replica, counts, None, "client_left" if self._client.left else "complete")
        if self._request.reservation is not None and self._request.reservation.ended(counts):
            answers.mark_budget_stop(content["choices"])
        await self._keep(self._request, content)
        body = self._request.dialect.whole(content)
        await self._client.answer(200, JSON + self._request.headers, body)

    async def _stream(self, answer: Answer) -> None:
        self._answer = answer
        if self._client.left:
            answer.half_close()
        stream = _Stream(answer, self._client, self._request)
        failure = await stream.pass_on()
        reason: EndReason = "client_left" if self._client.left else "complete" if failure is None else "engine_died"
        if reason == "engine_died":
            log.warning("stream_broke_off", replica=str(answer.replica.id), request=str(self._request.id))
        if (counts := stream.meter.counts()) is not None:
            try:
                await self._record(answer.replica, counts, stream.first_token_at, reason)
            except JournalBroken as error:
                failure = error
        if failure is None:
            await self._keep(self._request, None)
            await self._client.finish(stream.held_back + self._request.dialect.end())
        elif self._client.has_first_byte:
            await self._client.break_off(self._request.dialect.failure(failure))
        elif not self._client.left:
            raise failure

    async def _record(
        self, replica: Replica, counts: TokenCounts, first_token_at: datetime | None, reason: EndReason
    ) -> None:
        request, variant = self._request, self._request.variant
        if request.lease is not None:
            request.lease.end(counts.prompt + counts.completion)
        if request.reservation is not None:
            request.reservation.settle(counts)
            if reason == "complete" and request.reservation.ended(counts):
                reason = "budget"
        event = UsageEvent(
            usage_day_utc=ids.day_utc_of(request.id),
            id=request.id,
            tenant_id=request.caller.tenant_id,
            api_key_id=request.caller.id,
            request_id=request_id(request.id),
            tag=request.tag,
            endpoint=request.call.endpoint.path,
            model_id=variant.model_id,
            variant_id=variant.id,
            tier_requested=variant.tier,
            tier_served=variant.tier,
            replica_id=replica.id,
            started_at=request.started_at,
            first_token_at=first_token_at,
            ended_at=clock.now(),
            prompt_tokens=counts.prompt,
            cached_tokens=counts.cached,
            completion_tokens=counts.completion,
            reasoning_tokens=counts.reasoning,
            http_status=200,
            end_reason=reason,
            engine_prompt_tokens=counts.engine_prompt,
            adapter_id=request.target.adapter_id,
        )
        self._gateway.metrics.metered(variant, counts, request.started_at, first_token_at)
        if request.timeline is not None:
            request.timeline.counts, request.timeline.first_token_at = counts, first_token_at
        await self._gateway.journal.append(event)
        if request.sample is not None:
            self._gateway.cross_check.recorded(request.sample, event)


class _Stream:
    """The events of one stream. `held_back` is what must not leave before usage is recorded."""

    def __init__(self, answer: Answer, client: Client, request: Request) -> None:
        self._answer = answer
        self._client = client
        self._request = request
        self._dialect = request.dialect
        self._sample = request.sample
        reservation = request.reservation
        self._affordable = reservation.max_tokens if reservation is not None and reservation.is_short else None
        self._events = answers.EventSplitter()
        # A budget that is about to end is looked for in each event.
        self._patcher = EventPatcher.of(request.call, request.dialect) if self._affordable is None else None
        self._is_done = False
        self._refusal: StudioError | None = None  # an error that the engine sent as an event
        self.meter = StreamMeter(request.call.choices_per_prompt)
        self.first_token_at: datetime | None = None
        self.held_back = b""

    async def pass_on(self) -> StudioError | None:
        """Until the engine's end of the stream: None for a good one, otherwise what the caller is told."""
        data = self._answer.first
        try:
            while data:
                visible = self._read(data)
                if visible and not self._client.has_first_byte and not self._client.left:
                    await self._client.start(200, EVENT_STREAM + self._request.headers)
                if self._is_done:
                    self.held_back = visible
                    return None
                if visible:  # nothing may leave before the status
                    await self._client.write(visible)
                if self._refusal is not None:
                    return self._refusal
                data = await self._answer.more()
        except ReplicaGone:
            pass
        except asyncio.CancelledError:
            # The gateway stops and its time of grace is over. The caller is told, and pays for what it has.
            return _broke_off("The gateway is stopping")
        return _broke_off("The engine stopped answering")

    def _read(self, data: bytes) -> bytes:
        visible: list[bytes] = []
        for payload in self._events.feed(data):
            if payload == b"[DONE]":
                self._is_done = True
                break
            if self._patcher is not None and (patched := self._patcher.patch(payload)) is not None:
                visible.append(patched[0])
                self.meter.note(patched[1])
                if self._sample is not None:
                    self._sample.observe(orjson.loads(payload))
                continue
            try:
                event = orjson.loads(payload)
                if "error" in event:
                    self._refusal = self._read_error(event["error"], payload)
                    break
                self.meter.observe(event)
                if self._sample is not None:
                    self._sample.observe(event)  # before the dialect, which may change it
                if self._affordable is not None and event["usage"]["completion_tokens"] == self._affordable:
                    answers.mark_budget_stop(event["choices"])
                visible.append(self._dialect.event(event))
                if self._patcher is not None and self.meter.has_begun:
                    self._patcher.learn(payload)
            except (ValueError, KeyError, TypeError):
                # Not what an engine speaks. The caller gets an end, and pays for what was right before it.
                log.error("engine_event_unreadable", replica=str(self._answer.replica.id))
                self._refusal = _broke_off("The engine sent something unreadable")
                break
        if self.first_token_at is None and self.meter.has_begun:
            self.first_token_at = clock.now()
        return b"".join(visible)

    def _read_error(self, error: dict[str, Any], payload: bytes) -> StudioError:
        status = error.get("code")
        status = status if isinstance(status, int) else 500
        return answers.engine_error(status, payload, self._request.target, self._answer.replica)


def request_id(id: UUID) -> str:
    """How a request is named to its caller and in `usage_events`."""
    return f"req_{id.hex}"


def _broke_off(what: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"{what} in the middle of the stream; what arrived before is billed.", retry_after=timedelta(seconds=1)
    )
