"""Asking: one line, put to an engine by the same routing and in the same words as a gateway's request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import msgspec
import orjson
import structlog

from serving import routing
from serving.batches import results
from serving.batches.lines import BatchRequest
from serving.batches.metering import LineUsage, line_id
from serving.batches.shards import Shard
from serving.budgets.book import Budgets, Reservation
from serving.engines import RETRY, Answer, AnswerLost, Engines
from serving.fleet.view import Fleet, Replica
from serving.routing import Target
from serving.tokens import answers
from serving.tokens.answers import CompletionsDialect
from serving.tokens.engine_request import BATCH_PRIORITY, cache_salt, engine_body
from serving.tokens.usage import TokenCounts, read_usage
from serving.tokens.weighing import work_of
from serving.tokens.wire import Call
from serving.usage_event import EndReason, UsageEvent
from studio import clock, ids
from studio.errors import ModelAsleep, ServiceUnavailable, StudioError

PAUSES = (timedelta(seconds=0.5), timedelta(seconds=2), timedelta(seconds=8))  # before asking again
PATIENCE = timedelta(minutes=15)  # with one line in one attempt; then it fails
ATTEMPTS_MOST = 5  # at a shard, each by another lease; then lines that no engine can take fail

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answered:
    """A line for the output file, with what it cost."""

    line: bytes
    used: LineUsage


@dataclass(frozen=True, slots=True)
class Failed:
    """A line for the error file. It costs nothing."""

    line: bytes


@dataclass(frozen=True, slots=True)
class PutBack:
    """Not answered and not refused: no engine took it. `had_its_chance` unless the model merely sleeps."""

    had_its_chance: bool


class Asker:
    """Puts lines to the engines of the fleet."""

    def __init__(self, engines: Engines, fleet: Callable[[], Fleet], budgets: Budgets, cache_salt_key: bytes) -> None:
        self._engines = engines
        self._fleet = fleet
        self._budgets = budgets
        self._cache_salt_key = cache_salt_key
        self.has_lost_work = False  # engines have counted tokens that will be nobody's event

    async def ask(self, shard: Shard, number: int, request: BatchRequest) -> Answered | Failed | PutBack:
        """The answer to one line, after some tries."""
        id, began_at = _new_id(shard, number), clock.now()
        for pause in (*PAUSES, None):
            try:
                return await self._ask_once(shard, number, request, id)
            except ModelAsleep:
                return PutBack(had_its_chance=False)
            except ServiceUnavailable as error:
                self.has_lost_work |= isinstance(error, AnswerLost)
                if clock.now() - began_at > PATIENCE or (pause is None and shard.attempt >= ATTEMPTS_MOST):
                    return Failed(_refused(id, request, error))
            except StudioError as error:
                return Failed(_refused(id, request, error))
            if pause is not None:
                await asyncio.sleep(pause.total_seconds())
                id = _new_id(shard, number)  # usage begins when the engine that answered was asked
        return PutBack(had_its_chance=True)

    async def _ask_once(self, shard: Shard, number: int, request: BatchRequest, id: UUID) -> Answered:
        call = request.call
        target = routing.target_named(self._fleet(), call.model, shard.tenant_id)
        owner = shard.api_key_id if shard.own_cache else None
        salt = cache_salt(self._cache_salt_key, shard.tenant_id, call.client_salt, owner)
        reservation = await self._reserve(shard, call, target, id)
        affordable = reservation.max_tokens if reservation else None

        def body_for(replica: Replica) -> bytes:
            return engine_body(call, target, replica, salt, affordable, BATCH_PRIORITY)

        work = msgspec.structs.replace(work_of(call, target, salt), patient=True)
        try:
            answer = await self._engines.ask(
                self._fleet(), target, call.endpoint.engine_path, body_for, work, stream=False
            )
            try:
                if answer.status != 200:
                    raise answers.engine_error(answer.status, answer.first, target, answer.replica, call.payload)
                return _answered(shard, number, request, target, answer, id, reservation)
            finally:
                answer.close()
        finally:
            if reservation is not None:
                reservation.release()

    async def _reserve(self, shard: Shard, call: Call, target: Target, id: UUID) -> Reservation | None:
        context_tokens = target.variant.context_tokens
        return await self._budgets.reserve(
            shard.tenant_id,
            shard.api_key_id,
            ids.instant_of(id),
            self._fleet().prices_for(shard.tenant_id, target.variant.id),
            call.most_prompt_tokens(len(orjson.dumps(call.payload)), context_tokens),
            call.choices,
            call.most_tokens(target.variant.max_output_tokens or context_tokens),
            batch=True,
        )


def _answered(
    shard: Shard,
    number: int,
    request: BatchRequest,
    target: Target,
    answer: Answer,
    id: UUID,
    reservation: Reservation | None,
) -> Answered:
    try:
        content = orjson.loads(answer.first)
        counts = read_usage(content["usage"], request.call.choices_per_prompt)
    except (ValueError, KeyError, TypeError) as error:
        log.error("engine_answer_unreadable", replica=str(answer.replica.id), batch=str(shard.batch_id), line=number)
        raise AnswerLost(
            "The engine gave an answer that cannot be read; it is not billed.", retry_after=RETRY
        ) from error
    is_cut = reservation is not None and reservation.ended(counts)
    if reservation is not None:
        counts = reservation.bounded(counts)
        reservation.settle(counts)
    if is_cut:
        answers.mark_budget_stop(content["choices"])
    event = _event(shard, target, answer.replica, id, counts, "budget" if is_cut else "complete")
    body = orjson.loads(CompletionsDialect.of(request.call, id.hex).whole(content))
    line = results.answered(id, event.request_id, request.custom_id, answer.status, body)
    return Answered(line, LineUsage(number, event))


def _event(
    shard: Shard, target: Target, replica: Replica, id: UUID, counts: TokenCounts, end_reason: EndReason
) -> UsageEvent:
    variant = target.variant
    return UsageEvent(
        usage_day_utc=ids.day_utc_of(id),
        id=id,
        tenant_id=shard.tenant_id,
        api_key_id=shard.api_key_id,
        request_id=_request_id(id),
        tag=None,
        endpoint=shard.endpoint,
        model_id=variant.model_id,
        variant_id=variant.id,
        tier_requested=variant.tier,
        tier_served=variant.tier,
        replica_id=replica.id,
        started_at=ids.instant_of(id),
        first_token_at=None,
        ended_at=clock.now(),
        prompt_tokens=counts.prompt,
        cached_tokens=counts.cached,
        completion_tokens=counts.completion,
        reasoning_tokens=counts.reasoning,
        http_status=200,
        end_reason=end_reason,
        engine_prompt_tokens=counts.engine_prompt,
        adapter_id=target.adapter_id,
    )


def _new_id(shard: Shard, number: int) -> UUID:
    return line_id(shard.batch_id, number, clock.now())


def _request_id(id: UUID) -> str:
    return f"req_{id.hex}"


def _refused(id: UUID, request: BatchRequest, error: StudioError) -> bytes:
    return results.refused(id, _request_id(id), request.custom_id, error)
