"""One engine's answer on its way to the caller: rewritten, metered, and recorded before its last byte leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog

from serving.engine_aborts import is_aborted_event
from serving.engines import Answer, ReplicaGone
from serving.envelope import Headers
from serving.fleet.view import Replica
from serving.gateway import Gateway
from serving.journal import JournalBroken
from serving.tokens import answers
from serving.tokens.client import Client
from serving.tokens.engine_request import cache_salt, engine_body
from serving.tokens.metering import record
from serving.tokens.patching import EventPatcher
from serving.tokens.request import Request, about
from serving.tokens.second_line import SecondLine, closing_event
from serving.tokens.usage import StreamMeter, TokenCounts, read_usage
from serving.tokens.weighing import work_of
from serving.usage_event import EndReason
from studio import clock
from studio.errors import ServiceUnavailable, StudioError

JSON: Headers = [(b"content-type", b"application/json")]
EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events otherwise
]

log = structlog.get_logger()


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
        self._passing: _Stream | None = None

    async def run(self) -> None:
        """Until the last byte. StudioError only as long as the caller has not received the first."""
        request, call, reuse = self._request, self._request.call, self._request.reuse
        salt = cache_salt(
            self._gateway.cache_salt_key, request.caller.tenant_id, call.client_salt, request.caller.cache_owner
        )

        def body_for(replica: Replica) -> bytes:
            affordable = request.reservation.max_tokens if request.reservation else None
            return engine_body(call, request.target, replica, salt, affordable)

        if call.stream:
            self._client.watch(self._client_left)
        if reuse is not None:
            reuse.begin(request.target)
        try:
            answer = await self._gateway.engines.ask(
                self._gateway.view.fleet,
                request.target,
                call.endpoint.engine_path,
                body_for,
                work_of(call, request.target, salt),
                stream=call.stream,
            )
            await self._answered(answer)
        finally:
            if reuse is not None:
                reuse.end()

    async def _answered(self, answer: Answer) -> None:
        request = self._request
        if request.timeline is not None:
            request.timeline.answered_at, request.timeline.replica_id = clock.now(), answer.replica.id
        try:
            if answer.status != 200:
                raise answers.engine_error(
                    answer.status, answer.first, request.target, answer.replica, request.call.payload
                )
            await (self._stream(answer) if request.call.stream else self._whole(answer))
        finally:
            self._client.stop_watching()
            self._passing = None
            answer.close()

    def _client_left(self) -> None:
        if self._passing is not None:
            self._passing.hang_up()

    async def _whole(self, answer: Answer) -> None:
        reuse, reservation = self._request.reuse, self._request.reservation
        try:
            content = orjson.loads(answer.first)
            counts = read_usage(content["usage"], self._request.call.choices_per_prompt)
            if reuse is not None:
                content, counts = reuse.completed(content, counts)
            if (billed := _bounded(counts, self._request, answer)) != counts:
                counts = billed
                content["usage"] |= {
                    "completion_tokens": counts.completion,
                    "total_tokens": counts.prompt + counts.completion,
                }
        except (ValueError, KeyError, TypeError) as error:
            log.error("engine_answer_unreadable", replica=str(answer.replica.id), **about(self._request))
            raise ServiceUnavailable(
                "The engine gave an answer that cannot be read; it is not billed.", retry_after=timedelta(seconds=1)
            ) from error
        self._client.look()
        if self._request.sample is not None:
            self._request.sample.observe(content)
        reason: EndReason = "client_left" if self._client.left else "complete"
        await record(self._gateway, self._request, answer.replica.id, counts, None, reason)
        if reservation is not None and reservation.ended(counts):
            answers.mark_budget_stop(content["choices"])
        if reuse is not None and not (reservation is not None and reservation.is_short):
            await reuse.keep(content)  # what money may have cut is no answer for another time
        await self._keep(self._request, content)
        body = self._request.dialect.whole(content)
        await self._client.answer(200, JSON + self._request.headers, body)

    async def _stream(self, answer: Answer) -> None:
        self._passing = stream = _Stream(answer, self._client, self._request)
        failure = await stream.pass_on()
        reason: EndReason = "client_left" if self._client.left else "complete" if failure is None else "engine_died"
        if reason == "engine_died":
            log.warning("stream_broke_off", replica=str(answer.replica.id), **about(self._request))
        if (counts := stream.meter.counts()) is None:
            log.error("stream_without_usage_not_billed", replica=str(answer.replica.id), **about(self._request))
        else:
            counts = _bounded(counts, self._request, answer)
            try:
                await record(self._gateway, self._request, answer.replica.id, counts, stream.first_token_at, reason)
            except JournalBroken as error:
                failure = error
        if failure is None:
            await self._keep(self._request, None)
            await self._client.finish(stream.held_back + self._request.dialect.end())
        elif self._client.has_first_byte:
            await self._client.break_off(self._request.dialect.failure(failure))
        elif not self._client.left:
            raise failure


class _Stream:
    """The events of one stream. `held_back` is what must not leave before usage is recorded."""

    def __init__(self, answer: Answer, client: Client, request: Request) -> None:
        self._answer = answer
        self._client = client
        self._request = request
        self._dialect = request.dialect
        self._sample = request.sample
        self._second_line = SecondLine.of(request.reservation)
        self._events = answers.WholeEvents()
        # A budget that is about to end is looked for in each event, and the text of a sample is read from it.
        is_short = request.reservation is not None and request.reservation.is_short
        is_plain = not is_short and self._sample is None
        self._patcher = EventPatcher.of(request.call, request.dialect) if is_plain else None
        self._is_done = False
        self._has_hung_up = False
        self._is_aborted = False  # the engine was shut down: what still comes is the usage
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
                if self._client.left:
                    self.hang_up()
                if visible and not self._client.has_first_byte and not self._client.left:
                    await self._client.start(200, EVENT_STREAM + self._request.headers)
                if self._is_done and self._refusal is None:
                    self.held_back = visible
                    return None
                if visible:  # nothing may leave before the status
                    await self._client.write(visible)
                if self._refusal is not None:
                    return self._refusal
                data = await self._answer.more(self._take)
        except ReplicaGone:
            pass
        except asyncio.CancelledError:
            # The gateway stops and its time of grace is over. The caller is told, and pays for what it has.
            return _broke_off("The gateway is stopping")
        return _broke_off("The engine stopped answering")

    def _take(self, data: bytes) -> bool:
        """Common events alone, of which a stream consists: on their way in the turn of the loop in which they arrive.
        To wake the request's task for each costs more than all else. False leaves them to `pass_on`."""
        if self._patcher is None or not (self._events.is_between and self._client.has_first_byte):
            return False
        run = self._patcher.patch(data, 0)
        if run is None or run.end < len(data):
            return False
        if self._second_line is not None and self._second_line.is_near(run.usage):
            return False
        self.meter.note(run.usage)
        return self._client.write_at_once(run.visible)

    def hang_up(self) -> None:
        """The client has left. An engine that has told what it has used so far is told so, and stops. One that tells it
        only at the end is heard to its end, since nobody could say what to bill otherwise."""
        if self.meter.is_running and not self._has_hung_up:
            self._has_hung_up = True
            self._answer.half_close()

    def _read(self, data: bytes) -> bytes:
        visible: list[bytes] = []
        events, at = self._events.feed(data), 0
        while at < len(events) and not (self._is_done or self._refusal):
            run = None if self._patcher is None else self._patcher.patch(events, at)
            if run is not None and self._second_line is not None and self._second_line.is_near(run.usage):
                self._patcher = run = None  # from here on one by one
            if run is not None:
                visible.append(run.visible)
                self.meter.note(run.usage)
                at = run.end
                continue
            end = events.index(answers.EVENT_END, at)
            if events.startswith(b"data: ", at):
                visible.append(self._read_one(events[at + len(b"data: ") : end]))
            at = end + len(answers.EVENT_END)
        if self.first_token_at is None and self.meter.has_begun:
            self.first_token_at = clock.now()
        return b"".join(visible)

    def _read_one(self, payload: bytes) -> bytes:
        """The long way."""
        if payload == b"[DONE]":
            self._is_done = True
            if self._is_aborted:
                self._refusal = _broke_off("The engine was shut down")
            return b""
        try:
            event = orjson.loads(payload)
            if "error" in event:
                self._refusal = self._read_error(event["error"], payload)
                return b""
            if is_aborted_event(event) or (self._is_aborted and not event.get("choices")):
                self._is_aborted = True
                self.meter.observe(event)
                return b""
            if self._second_line is not None and not self._second_line.take(event):
                return b""
            self.meter.observe(event)
            if self._sample is not None:
                self._sample.observe(event)  # before the dialect, which may change it
            visible = self._dialect.event(event)
            if self._second_line is not None and self._second_line.ends_the_stream:
                visible += self._end_here(event)
        except (ValueError, KeyError, TypeError):
            # Not what an engine speaks. The caller gets an end, and pays for what was right before it.
            log.error("engine_event_unreadable", replica=str(self._answer.replica.id), **about(self._request))
            self._refusal = _broke_off("The engine sent something unreadable")
            return b""
        if self._patcher is not None and self.meter.has_begun:
            self._patcher.learn(payload)
        return visible

    def _end_here(self, last: dict[str, Any]) -> bytes:
        """As an engine ends a stream, which this one did not. It hears at once that nobody reads on."""
        counts, reservation = self.meter.counts(), self._request.reservation
        assert counts is not None  # a running usage has brought us here
        assert reservation is not None  # whose limit was reached
        log.warning("engine_writes_beyond_its_limit", replica=str(self._answer.replica.id), **about(self._request))
        self._is_done = True
        self._answer.half_close()
        return self._dialect.event(closing_event(last, reservation.bounded(counts)))

    def _read_error(self, error: dict[str, Any], payload: bytes) -> StudioError:
        status = error.get("code")
        status = status if isinstance(status, int) else 500
        refusal = answers.engine_error(
            status, payload, self._request.target, self._answer.replica, self._request.call.payload
        )
        # Of what has begun, "could not take the request" would be a lie: it did, and it costs.
        is_late = self.meter.has_begun and isinstance(refusal, ServiceUnavailable)
        return _broke_off("The engine failed") if is_late else refusal


def _bounded(counts: TokenCounts, request: Request, answer: Answer) -> TokenCounts:
    """What is billed: never more than what was set aside, even where an engine has written more."""
    if request.reservation is None:
        return counts
    billed = request.reservation.bounded(counts)
    if billed != counts:
        log.warning(
            "tokens_beyond_the_limit_not_billed",
            replica=str(answer.replica.id),
            tokens=counts.completion - billed.completion,
            **about(request),
        )
    return billed


def _broke_off(what: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"{what} in the middle of the stream; what arrived before is billed.", retry_after=timedelta(seconds=1)
    )
