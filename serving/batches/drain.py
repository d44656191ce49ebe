"""The drain: one worker that brings all batches forward until nothing is left to do, or its time is over.

It judges new files, leases shards, puts their lines to the replicas, commits, ends batches, and removes bytes that
nobody may read any more. Its whole state is rows and objects, so any number of workers may run, and each may be killed
at any point. A batch that fails in a way which nobody foresaw fails alone: the others are other tenants'.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy import Engine
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.orm import Session

from serving.batches import assembly, lifecycle, results, shards, sweep, validation, workers
from serving.batches.asking import ATTEMPTS_MOST, Asker
from serving.batches.attempt import Attempt
from serving.batches.failures import facts, is_missing, is_outage
from serving.batches.lanes import Lanes
from serving.batches.lifecycle import Progress, WaitingBatch
from serving.batches.lines import read_lines
from serving.batches.planner import plan
from serving.batches.shards import LeaseLost, Outcome
from serving.batches.validation import Finding, Validated, finding
from serving.batches.workers import WorkerClosed
from serving.budgets.book import Budgets
from serving.budgets.draws import Draws
from serving.engines import Engines
from serving.feed import Feed
from serving.fleet import states
from serving.fleet.view import FleetView
from serving.probing import probe_forever
from serving.tokens.wire import ENDPOINTS
from studio import clock, ids
from studio.db.sessions import unit_of_work
from studio.object_streams import read_pieces
from studio.objects import Bucket, ObjectStore

Result = TypeVar("Result")

_UNREADABLE = finding("internal_error", "The file could not be read.")
_MISSING = finding("file_not_found", "The file's content is not there any more.", param="input_file_id")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the drain acts. A kill costs at most the lease; an idle worker costs memory."""

    lines_per_replica: int = 32
    lease: timedelta = workers.LEASE
    heartbeat: timedelta = timedelta(seconds=2)
    look: timedelta = timedelta(seconds=0.5)
    idle: timedelta = timedelta(seconds=20)
    longest: timedelta = timedelta(minutes=55)  # then a fresh process, with the code of the day, goes on
    asleep: timedelta = timedelta(seconds=15)  # without a ready replica, before shards are put back
    grace: timedelta = timedelta(seconds=20)  # for lines in flight when the worker has to stop
    put_off: timedelta = timedelta(seconds=30)  # what could not be judged or assembled, through no fault of its own
    sweep: timedelta = timedelta(minutes=1)  # from one look for bytes to remove to the next


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a drain works with."""

    database: Engine  # in the role `worker`
    store: ObjectStore
    cache_salt_key: bytes = field(repr=False)
    pace: Pace = Pace()


class Drain:
    """One worker. `on_progress` hears of every step of every batch, in this thread."""

    def __init__(self, equipment: Equipment, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        self.id = ids.uuid7()
        self._database = equipment.database
        self._store = equipment.store
        self._cache_salt_key = equipment.cache_salt_key
        self._pace = equipment.pace
        self._on_progress = on_progress
        self._view = FleetView()
        self._engines = Engines()
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._ledger = asyncio.Lock()  # one writer of this worker's counts at a time
        self._stopping = False
        self._has_lost_work = False
        self._last_ready: dict[str, float] = {}
        self._put_off_until: dict[UUID, float] = {}
        self._sweeps_at = 0.0

    def stop(self) -> None:
        """Begin nothing more; `run` returns within the grace."""
        self._stopping = True

    async def run(self) -> None:
        """Until nothing has been left to do for a while, the time is over, or `stop`."""
        await self._write(lambda session: workers.close_the_dead(session, clock.now(), self._pace.lease))
        await self._write(lambda session: workers.register(session, self.id, clock.now()))
        log.info("batch_worker_started", worker=str(self.id))
        budgets = Budgets(Draws(self._database, self.id))
        feed = Feed(self._database.url.render_as_string(hide_password=False), (budgets, self._view))
        lanes = Lanes(self._room_for)
        asker = Asker(self._engines, lambda: self._view.fleet, budgets, self._cache_salt_key)
        probing = probe_forever(self._engines, self._view)
        following = [asyncio.create_task(work) for work in (feed.run(), budgets.tidy(), probing)]
        beating = asyncio.create_task(self._beat())
        try:
            await feed.loaded.wait()
            await self._work(lanes, asker, beating)
        finally:
            await self._wind_up()
            for task in (*following, beating):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, WorkerClosed):
                await beating
            await self._engines.close()
            lost = self._has_lost_work or asker.has_lost_work
            await self._write(lambda session: workers.close(session, self.id, clock.now(), lost_work=lost))
            log.info("batch_worker_stopped", worker=str(self.id), lost_work=lost)

    async def _work(self, lanes: Lanes, asker: Asker, beating: asyncio.Task[None]) -> None:
        started = busy_at = time.monotonic()
        while not self._stopping and not beating.done():
            found = [
                await self._validate_one(),
                await self._end_batches(),
                await self._sweep(),
                await self._claim(lanes, asker),
            ]
            now = time.monotonic()
            if any(found) or self._attempts:
                busy_at = now
            if now - busy_at > self._pace.idle.total_seconds() or now - started > self._pace.longest.total_seconds():
                return
            if not any(found):
                await asyncio.wait(
                    {beating, *self._attempts},
                    timeout=self._pace.look.total_seconds(),
                    return_when=asyncio.FIRST_COMPLETED,
                )

    async def _wind_up(self) -> None:
        """Let what is in flight end, cut what does not, keep what is finished."""
        for attempt in self._attempts.values():
            attempt.stop = attempt.stop or "worker"
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=self._pace.grace.total_seconds())
        for attempt in self._attempts.values():
            attempt.abandon()
        if self._attempts:
            await asyncio.wait(self._attempts)

    # files

    async def _validate_one(self) -> bool:
        waiting = await self._write(lambda s: lifecycle.to_validate(s, self._put_off()))
        if waiting is None:
            return False
        try:
            await self._settle(waiting, await asyncio.to_thread(self._judge, waiting))
        except OperationalError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever its file does to us, the other batches go on
            log.error("batch_not_judged", batch=str(waiting.id), **facts(error))
            if is_outage(error):
                self._put_off_until[waiting.id] = time.monotonic() + self._pace.put_off.total_seconds()
                return False
            await self._settle(waiting, (_UNREADABLE,))
        await self._report(waiting.id)
        return True

    async def _settle(self, waiting: WaitingBatch, verdict: Validated | tuple[Finding, ...]) -> None:
        if isinstance(verdict, Validated):
            target, spans, lines = verdict.target, plan(verdict.lines), len(verdict.lines)
            await self._write(lambda s: lifecycle.begin(s, waiting, target, lines, spans, clock.now()))
        else:
            await self._write(lambda s: lifecycle.fail(s, waiting.id, verdict, clock.now()))

    def _judge(self, waiting: WaitingBatch) -> Validated | tuple[Finding, ...]:
        endpoint = next(one for one in ENDPOINTS if one.path == waiting.endpoint)
        pieces = read_pieces(self._store, Bucket.FILES, waiting.input_key)
        try:
            return validation.validate(
                read_lines(pieces), endpoint, self._view.fleet, waiting.tenant_id, waiting.models
            )
        except ClientError as error:
            if is_missing(error):
                return (_MISSING,)
            raise

    def _put_off(self) -> list[UUID]:
        now = time.monotonic()
        self._put_off_until = {id: until for id, until in self._put_off_until.items() if until > now}
        return list(self._put_off_until)

    # shards

    async def _claim(self, lanes: Lanes, asker: Asker) -> bool:
        """Lease one more shard, if there is room for it, and begin it."""
        fleet = self._view.fleet
        variants = [id for id, one in fleet.variants.items() if lanes.has_room(one.replicas_of)]
        now = clock.now()
        await self._write(lambda session: lifecycle.expire(session, now))
        held = [attempt.shard for attempt in self._attempts.values()]
        shard = await self._write(lambda s: shards.claim(s, self.id, variants, held, now, self._pace.lease))
        if shard is None:
            return False
        lane = fleet.variants[shard.variant_id].replicas_of if shard.variant_id in fleet.variants else shard.variant_id
        stopped = await self._write(lambda s: lifecycle.reasons_to_stop(s, [shard.batch_id]))
        attempt = Attempt(shard, lane, lanes, asker, lambda: self._is_asleep(lane))
        attempt.stop = stopped.get(shard.batch_id)
        task = asyncio.create_task(self._carry_out(attempt))
        self._attempts[task] = attempt
        task.add_done_callback(self._attempt_ended)
        return True

    def _attempt_ended(self, task: asyncio.Task[None]) -> None:
        """Its lease runs out by itself when nothing was committed: nobody renews it any more."""
        shard = self._attempts.pop(task).shard
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("attempt_failed", batch=str(shard.batch_id), shard=shard.shard_no, **facts(error))

    async def _carry_out(self, attempt: Attempt) -> None:
        shard = attempt.shard
        key = f"{results.shards_prefix(shard.tenant_id, shard.batch_id)}{shard.shard_no:06d}.{self.id}.{shard.attempt}"
        try:
            await self._keep(attempt, await attempt.run(self._store, key))
        except asyncio.CancelledError:
            self._has_lost_work = True
            raise
        except OperationalError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, its results are not kept
            log.error("shard_failed", batch=str(shard.batch_id), shard=shard.shard_no, **facts(error))
            await self._lose(attempt)
            await asyncio.sleep(self._pace.heartbeat.total_seconds())
            await self._keep(attempt, await self._after_failure(attempt, key, error))
        await self._report(shard.batch_id)

    async def _after_failure(self, attempt: Attempt, key: str, error: Exception) -> Outcome:
        """Somebody tries again, unless the shard has had its chances or its batch is over. An outage takes none."""
        is_last = attempt.is_out_of_time or attempt.shard.attempt >= ATTEMPTS_MOST
        if is_outage(error):
            is_last = attempt.is_out_of_time and attempt.shard.attempt >= ATTEMPTS_MOST
        if is_last:
            return await attempt.give_up(self._store, key)
        counts = attempt.is_out_of_time or not is_outage(error)
        return Outcome(None, None, 0, 0, (), (), counts_as_attempt=counts, result_bytes=0)

    async def _keep(self, attempt: Attempt, outcome: Outcome) -> None:
        """Commit. What another worker does instead is forgotten here."""
        shard = attempt.shard
        self._has_lost_work |= attempt.was_cut
        try:
            async with self._ledger:
                noted = attempt.noted_tokens if outcome.used else 0
                await self._write(lambda s: shards.commit(s, self.id, shard, outcome, noted, clock.now()))
                attempt.is_settled = True
        except (LeaseLost, WorkerClosed) as error:
            log.warning("lease_lost", batch=str(shard.batch_id), shard=shard.shard_no, error=str(error))
            await self._lose(attempt)
            with contextlib.suppress(BotoCoreError, ClientError):
                await asyncio.to_thread(results.remove, self._store, outcome.output_key, outcome.error_key)

    async def _lose(self, attempt: Attempt) -> None:
        """Count as unbilled what the attempt has used and not yet noted."""
        async with self._ledger:
            tokens = attempt.used_tokens - attempt.noted_tokens
            self._has_lost_work |= attempt.used_tokens > 0
            attempt.noted_tokens += tokens
            attempt.is_settled = True
            if tokens:
                await self._write(lambda s: shards.note_unbilled(s, {attempt.shard.batch_id: tokens}))

    # the end of a batch

    async def _end_batches(self) -> bool:
        ended = False
        for batch_id in await self._write(lambda s: lifecycle.run_out(s, self._put_off())):
            try:
                is_ended = await asyncio.to_thread(assembly.assemble, self._database, self._store, batch_id)
            except Exception as error:  # noqa: BLE001  # its results are kept and tried again; the other batches go on
                log.error("batch_not_assembled", batch=str(batch_id), **facts(error))
                self._put_off_until[batch_id] = time.monotonic() + self._pace.put_off.total_seconds()
                continue
            if is_ended:
                ended = True
                self._sweeps_at = 0.0  # its shards' results can go, and perhaps its input
                await self._report(batch_id)
        return ended

    # bytes

    async def _sweep(self) -> bool:
        """Now and then. What is left after one sweep goes with the next one at once."""
        if time.monotonic() < self._sweeps_at:
            return False
        try:
            has_removed = await asyncio.to_thread(sweep.sweep, self._database, self._store) > 0
        except Exception as error:  # noqa: BLE001  # bytes can wait, batches cannot
            log.warning("sweep_failed", worker=str(self.id), **facts(error))
            has_removed = False
        if not has_removed:
            self._sweeps_at = time.monotonic() + self._pace.sweep.total_seconds()
        return has_removed

    # every few seconds

    async def _beat(self) -> None:
        """Prolong the leases, note what was used, hear of cancellations; ends with WorkerClosed."""
        while True:
            attempts = list(self._attempts.values())
            async with self._ledger:
                used = {attempt: attempt.used_tokens for attempt in attempts if not attempt.is_settled}
                stopped = await self._write(lambda s: self._beat_once(s, attempts, used))  # noqa: B023  # awaited here
                for attempt, tokens in used.items():
                    attempt.noted_tokens = tokens
            for attempt in attempts:
                attempt.stop = attempt.stop or stopped.get(attempt.shard.batch_id)
            await asyncio.sleep(self._pace.heartbeat.total_seconds())

    def _beat_once(
        self, session: Session, attempts: Sequence[Attempt], used: Mapping[Attempt, int]
    ) -> Mapping[UUID, lifecycle.ReasonToStop]:
        now = clock.now()
        shards.renew(session, self.id, [attempt.shard for attempt in attempts], now, self._pace.lease)
        workers.beat(session, self.id, now)
        workers.close_the_dead(session, now, self._pace.lease)
        news: dict[UUID, int] = {}
        for attempt, tokens in used.items():
            batch_id = attempt.shard.batch_id
            news[batch_id] = news.get(batch_id, 0) + tokens - attempt.noted_tokens
        shards.note_unbilled(session, {batch_id: tokens for batch_id, tokens in news.items() if tokens})
        return lifecycle.reasons_to_stop(session, [attempt.shard.batch_id for attempt in attempts])

    # what the fleet has

    def _room_for(self, lane: str) -> int:
        fleet, variant = self._view.fleet, self._view.fleet.variants.get(lane)
        silent = self._engines.balancer.health.silent()
        if variant is not None and states.state(fleet, variant, clock.now(), silent) in ("cold", "starting"):
            return 0  # an attached engine outside its hours: its row says for ever that it is ready
        ready = sum(replica.state == "ready" for replica in fleet.replicas.get(lane, ()))
        if ready:
            self._last_ready[lane] = time.monotonic()
        return ready * self._pace.lines_per_replica

    def _is_asleep(self, lane: str) -> bool:
        if self._room_for(lane):
            return False
        return time.monotonic() - self._last_ready.get(lane, 0.0) > self._pace.asleep.total_seconds()

    # rows

    async def _report(self, batch_id: UUID) -> None:
        self._on_progress(await self._write(lambda session: lifecycle.progress(session, batch_id)))

    async def _write(self, work: Callable[[Session], Result]) -> Result:
        """A unit of work in a thread. A database that is away is waited for as long as a lease holds.

        The wait begins with the first failure, not with the work: who was frozen in a transaction finds it ended by the
        server long after it had begun.
        """
        give_up_at: float | None = None
        while True:
            try:
                return await asyncio.to_thread(self._unit_of_work, work)
            except (OperationalError, InternalError) as error:  # the latter: we fell asleep in a transaction
                now = time.monotonic()
                give_up_at = give_up_at or now + self._pace.lease.total_seconds()
                if now > give_up_at:
                    raise
                log.warning("database_away", worker=str(self.id), error=str(error.orig).strip())
                await asyncio.sleep(self._pace.look.total_seconds())

    def _unit_of_work(self, work: Callable[[Session], Result]) -> Result:
        with unit_of_work(self._database) as session:
            return work(session)
