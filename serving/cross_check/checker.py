"""Counts sampled requests again, one after the other, in the background. It stores numbers and never a text.

At most `HELD_AT_MOST` samples are in memory, those being answered included: a burst loses samples, never memory. What
happens here costs nobody an answer.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine, insert
from sqlalchemy.exc import SQLAlchemyError

from serving.cross_check.sample import Sample, Skipped, prompts_of, why_skipped
from serving.engines import Engines
from serving.fleet.view import FleetView
from serving.metrics import Metrics
from serving.routing import Target
from serving.tokens import counting
from serving.tokens.wire import Call
from serving.usage_event import UsageEvent
from studio.db.sessions import tenant_scope
from studio.db.usage import UsageCount
from studio.errors import StudioError

HELD_AT_MOST = 32
PATIENCE = timedelta(seconds=30)  # for one sample

_ALL = 1 << 29
_FIRST_BIT = 32  # of a request's random bits: those below choose what is traced (`serving/traces.py`)

log = structlog.get_logger()


class CrossCheck:
    """Of one gateway."""

    def __init__(self, engines: Engines, view: FleetView, metrics: Metrics, database: Engine, share: float) -> None:
        self._engines = engines
        self._view = view
        self._metrics = metrics
        self._database = database
        self._sampled = int(share * _ALL)
        self._held = 0
        self._waiting: asyncio.Queue[tuple[Sample, UsageEvent]] = asyncio.Queue()

    def begin(self, id: UUID, call: Call, target: Target, body_bytes: int) -> Sample | None:
        """A sample for a request that is drawn: by its own random bits, so nobody outside can ask to be. It is held
        until `release`."""
        if (id.int >> _FIRST_BIT) % _ALL >= self._sampled or not call.endpoint.is_metered:
            return None
        skipped = why_skipped(call, body_bytes) or ("busy" if self._held >= HELD_AT_MOST else None)
        if skipped is not None:
            self._skip(target, skipped)
            return None
        self._held += 1
        return Sample(call, target)

    def recorded(self, sample: Sample, event: UsageEvent) -> None:
        """Its answer is complete, and this is what was metered: it may be counted now."""
        if sample.skipped is None and event.end_reason not in ("complete", "budget"):
            sample.skipped = "broken_off"
        if sample.skipped is not None:
            self._skip(sample.target, sample.skipped)
            return
        sample.is_waiting = True
        self._waiting.put_nowait((sample, event))

    def release(self, sample: Sample) -> None:
        """Its request has ended. One that waits to be counted is held until it is."""
        self._held -= not sample.is_waiting

    async def run(self) -> None:
        """For ever, until cancelled."""
        while True:
            sample, event = await self._waiting.get()
            try:
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    await self._check(sample, event)
            except (StudioError, TimeoutError, ValueError, KeyError, TypeError):
                self._skip(sample.target, "not_counted")
            except SQLAlchemyError as error:
                log.warning("usage_count_not_stored", request=event.request_id, error=type(error).__name__)
            except Exception:
                log.exception("cross_check_failed", request=event.request_id)
            finally:
                self._held -= 1
                del sample, event  # or the last one's text would be held until the next

    async def _check(self, sample: Sample, event: UsageEvent) -> None:
        prompt, asked = prompts_of(sample.call)
        for one in asked:
            prompt += await self._count(sample.target, one)
        completion = sample.unseen_tokens
        for text in sample.texts:
            completion += await self._count(sample.target, {"prompt": text, "add_special_tokens": False})
        self._metrics.cross_checked(event.model_id, "prompt", event.prompt_tokens, prompt)
        self._metrics.cross_checked(event.model_id, "completion", event.completion_tokens, completion)
        await asyncio.to_thread(self._store, event, prompt, completion)

    async def _count(self, target: Target, asked: dict[str, Any]) -> int:
        return await counting.count(self._engines, self._view.fleet, target, asked)

    def _store(self, event: UsageEvent, prompt: int, completion: int) -> None:
        with tenant_scope(self._database, event.tenant_id) as session:
            session.execute(
                insert(UsageCount).values(
                    id=event.id,
                    tenant_id=event.tenant_id,
                    model_id=event.model_id,
                    variant_id=event.variant_id,
                    replica_id=event.replica_id,
                    started_at=event.started_at,
                    metered_prompt_tokens=event.prompt_tokens,
                    counted_prompt_tokens=prompt,
                    metered_completion_tokens=event.completion_tokens,
                    counted_completion_tokens=completion,
                )
            )

    def _skip(self, target: Target, why: Skipped) -> None:
        self._metrics.cross_check_skipped(target.variant.model_id, why)
