"""One place for a replica: brings an engine up from verified weights, watches it, replaces it when it dies, drains it.

A slot runs until it is retired. Which slots there are is decided in `node_agent.py`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import aiohttp
import structlog
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from local.engine_adapters import EngineAdapters
from local.engine_command import EngineSpec
from local.engine_process import EngineFailed, EngineMetrics, EngineProcess
from local.replica_records import ReplicaRecord, ServedAdapter, WarmupTimes
from local.service_log import ServiceLog
from studio import clock, weights
from studio.catalog.declaration import file_name_of
from studio.errors import NotFound, StudioError
from studio.objects import ObjectStore

log = structlog.get_logger()

Result = TypeVar("Result")

_WATCH_SECONDS = 1.0
_START_SECONDS = 900.0  # the largest models of the catalog load in minutes
_BUSY_READING_SECONDS = 60.0  # an engine that is never idle is read as often as reconciliation needs it
_SILENCE_SECONDS = 60.0  # a busy engine may be slow to answer, one that is silent this long hangs
_STOP_GRACE_SECONDS = 5.0
_BACKOFF_SECONDS = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


@dataclass(frozen=True, slots=True)
class Node:
    """What this machine offers to its engines."""

    python: Path
    weights_dir: Path
    adapters_dir: Path
    log_dir: Path
    store: ObjectStore
    http: aiohttp.ClientSession
    ports: Iterator[int]  # free ones
    fetching: asyncio.Lock  # two replicas of a variant would download into the same folder
    starts: asyncio.Semaphore  # starting an engine keeps two cores busy: many at once would all be late


class _Retired(Exception):
    """The slot is no longer wanted."""


@dataclass(slots=True)
class ReplicaSlot:
    """Keeps one replica of `spec` running. `on_change` is called when a record has something to be written."""

    spec: EngineSpec
    number: int
    node: Node
    on_change: Callable[[], None]
    record: ReplicaRecord | None = None
    drain_seconds: float = 30.0
    adapters: tuple[ServedAdapter, ...] = ()  # that its engine should have now
    _retired: asyncio.Event = field(default_factory=asyncio.Event)

    def retire(self, drain_seconds: float = 30.0) -> None:
        """Let what runs finish, for so long at most, then end."""
        self.drain_seconds = drain_seconds
        self._retired.set()

    @property
    def is_retired(self) -> bool:
        """Whether it is on its way out."""
        return self._retired.is_set()

    async def run(self) -> None:
        """Until retired."""
        failures = 0
        while not self._retired.is_set():
            try:
                await self._run_engine()
            except _Retired:
                return
            except EngineFailed as failed:
                # It was warm, so whatever ended it is news, not the same fault again.
                failures = 0 if self.record is not None and self.record.ready_at is not None else failures
                pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
                failures += 1
                variant = self.spec.variant_id
                log.warning("engine_failed", variant=variant, reason=str(failed), again_in_seconds=pause)
                self.record = None
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not once retired."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._retired.wait()

    async def _run_engine(self) -> None:
        """One engine, from weights to end. Ends by _Retired or EngineFailed."""
        started_at = clock.now()
        folder, weights_seconds = await self._weights()
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(self.node.starts)
            if self._retired.is_set():
                raise _Retired
            began = time.monotonic()
            engine = await self._start(folder)
            record = self.record = ReplicaRecord(self.spec, engine.url, engine.pid)
            self.on_change()
            try:
                await self._unless_over(engine, engine.until_healthy(_START_SECONDS))
                start_seconds = time.monotonic() - began
                first_token_seconds = await self._unless_over(engine, engine.answer(self.spec))
                baseline = await self._unless_over(engine, engine.settled_metrics())
                times = WarmupTimes(started_at, weights_seconds, start_seconds, first_token_seconds)
                record.become_ready(baseline, times)
                self.on_change()
                log.info("replica_ready", variant=self.spec.variant_id, replica=str(record.id), url=engine.url)
                await turn.aclose()
                await self._unless_over(engine, self._watch(engine, record))
            except EngineFailed as failed:
                record.end("failed", str(failed))
                self.on_change()
                raise
            except _Retired:
                await self._drain(engine, record)
                record.end("stopped")
                raise
            finally:
                await engine.stop(_STOP_GRACE_SECONDS)
                self.on_change()

    async def _start(self, folder: Path) -> EngineProcess:
        port = next(self.node.ports)
        return await EngineProcess.start(
            self.spec.arguments(self.node.python, folder, port),
            self.spec.environment(os.environ),
            port,
            ServiceLog(self.node.log_dir / f"engine-{file_name_of(self.spec.variant_id)}-{self.number}.log"),
            self.node.http,
        )

    async def _weights(self) -> tuple[Path, float]:
        """The verified folder, and how many seconds it took to have it. Waits for weights that are not pushed yet."""
        waiting = False
        while not self._retired.is_set():
            began = time.monotonic()
            try:
                async with self.node.fetching:
                    folder = await asyncio.to_thread(
                        weights.ensure_local, self.node.store, self.spec.weights_id, self.node.weights_dir
                    )
                return folder, time.monotonic() - began
            except NotFound as missing:
                if not waiting:
                    log.info("waiting_for_weights", variant=self.spec.variant_id, reason=missing.message)
                waiting = True
            except (NotConnected, HTTPClientError) as away:
                if not waiting:
                    log.info("waiting_for_object_store", variant=self.spec.variant_id, reason=str(away))
                waiting = True
            except (StudioError, BotoCoreError, ClientError, OSError) as error:
                raise EngineFailed(f"weights are not available: {error}") from error
            await self._pause(_WATCH_SECONDS)
        raise _Retired

    async def _watch(self, engine: EngineProcess, record: ReplicaRecord) -> None:
        """Give it its adapters; write down its counters when it has come to rest. EngineFailed when it is silent.

        One that never rests is written down busy, every so often: reconciliation then has bounds instead of a number.
        """
        adapters = EngineAdapters(engine, record, self.node.store, self.node.adapters_dir, self.on_change)
        written, before = record.baseline, record.baseline
        heard = written_at = time.monotonic()
        while True:
            began = time.monotonic()
            await adapters.reconcile(self.adapters)
            heard += time.monotonic() - began  # it was not asked for its counters meanwhile
            await asyncio.sleep(_WATCH_SECONDS)
            now = await engine.metrics()
            if now is not None:
                heard = time.monotonic()
                at_rest = now == before and now != written and now.requests == 0
                if at_rest or (now.requests > 0 and heard - written_at > _BUSY_READING_SECONDS):
                    record.count(now)
                    self.on_change()
                    written, written_at = now, heard
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise EngineFailed(f"has not answered for {_SILENCE_SECONDS:.0f} s")
            before = now

    async def _drain(self, engine: EngineProcess, record: ReplicaRecord) -> None:
        """Send it nothing new, let it finish, write down where its counters ended."""
        if record.state != "ready":
            return
        record.drain("no longer wanted here")
        self.on_change()
        log.info("replica_draining", variant=self.spec.variant_id, replica=str(record.id))
        last: EngineMetrics | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(self.drain_seconds):
                await asyncio.sleep(_WATCH_SECONDS)  # the gateway hears of it within this time
                last = await engine.settled_metrics()
        if last is not None:
            record.count(last)

    async def _unless_over(self, engine: EngineProcess, work: Coroutine[object, object, Result]) -> Result:
        """The work's result, unless the slot is retired or the engine ends first."""
        working = asyncio.create_task(work)
        retired = asyncio.create_task(self._retired.wait())
        ended = asyncio.create_task(engine.ended())
        tasks = (working, retired, ended)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise ended.result()
            if retired.done():
                raise _Retired
            return await working
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
