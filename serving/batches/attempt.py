"""One attempt at one shard: its lines are read, asked, collected; then everything is kept at once, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal
from uuid import UUID

import structlog

from serving.batches import results
from serving.batches.asking import Answered, Asker, Failed, PutBack
from serving.batches.failures import facts
from serving.batches.lanes import Lanes
from serving.batches.lines import Line, custom_id_of, read_lines, read_request
from serving.batches.metering import LineUsage, line_id
from serving.batches.planner import LineAt, runs
from serving.batches.results import NotRun, ShardResults
from serving.batches.shards import Outcome, Shard
from serving.tokens.wire import ENDPOINTS
from studio import clock
from studio.errors import StudioError
from studio.object_streams import read_span
from studio.objects import Bucket, ObjectStore

Stop = Literal["cancelled", "expired", "worker"]

_NOT_RUN: dict[Stop, NotRun] = {"cancelled": "batch_cancelled", "expired": "batch_expired"}

log = structlog.get_logger()


class Attempt:
    """`stop` ends it early: no further line begins, and what is in flight is waited for unless `abandon` cuts it."""

    def __init__(self, shard: Shard, lane: str, lanes: Lanes, asker: Asker, is_asleep: Callable[[], bool]) -> None:
        self.shard = shard
        self.stop: Stop | None = None
        self.noted_tokens = 0  # counted as unbilled so far
        self.is_settled = False  # its tokens are billed, or finally counted as unbilled
        self.was_cut = False
        self._lane = lane
        self._lanes = lanes
        self._asker = asker
        self._is_asleep = is_asleep
        self._endpoint = next(one for one in ENDPOINTS if one.path == shard.endpoint)
        self._used: list[LineUsage] = []
        self._put_back: list[LineAt] = []
        self._had_its_chance = False
        self._asking: set[asyncio.Task[None]] = set()
        self._begun = 0
        lanes.expect(lane, shard.lines_most)

    @property
    def used_tokens(self) -> int:
        """Of the lines that are answered."""
        return sum(one.tokens for one in self._used)

    def abandon(self) -> None:
        """Cut what is in flight. Its engines have counted tokens that nobody will pay for."""
        self.was_cut = bool(self._asking)
        for task in self._asking:
            task.cancel()

    @property
    def is_out_of_time(self) -> bool:
        """Whether its batch is to end without asking any engine again."""
        return self._why_not is not None

    @property
    def _why_not(self) -> NotRun | None:
        return None if self.stop is None else _NOT_RUN.get(self.stop)

    async def run(self, store: ObjectStore, key: str) -> Outcome:
        """Do what can be done and write the results to the object store. Nothing of it counts until it is committed."""
        with ShardResults() as collected:
            try:
                await self._ask_all(await asyncio.to_thread(self._read, store), collected)
            finally:
                self._lanes.expect(self._lane, self._begun - self.shard.lines_most)
            output_key, error_key = await asyncio.to_thread(collected.store, store, key)
        return Outcome(
            output_key=output_key,
            error_key=error_key,
            completed=collected.completed,
            failed=collected.failed,
            used=tuple(self._used),
            unfinished=runs(sorted(self._put_back, key=lambda line: line.number)),
            counts_as_attempt=self._had_its_chance,
            result_bytes=collected.size_bytes,
        )

    async def give_up(self, store: ObjectStore, key: str) -> Outcome:
        """All lines fail, with a line each in the error file where they can be read and written, else as a number."""
        failed, error_key, size_bytes = self.shard.lines_most, None, 0
        try:
            lines = await asyncio.to_thread(self._read, store)
            failed = len(lines) or failed
            with ShardResults() as collected:
                for line in lines:
                    self._fail(line, collected, self._why_not or "internal_error")
                _, error_key = await asyncio.to_thread(collected.store, store, key)
                size_bytes = collected.size_bytes
        except Exception as error:  # noqa: BLE001  # whatever it is, the shard ends here
            log.error("shard_without_results", batch=str(self.shard.batch_id), **facts(error))
        return Outcome(None, error_key, 0, failed, (), (), counts_as_attempt=True, result_bytes=size_bytes)

    def _read(self, store: ObjectStore) -> list[Line]:
        shard = self.shard
        text = read_span(store, Bucket.FILES, shard.input_key, shard.byte_from, shard.byte_until)
        return list(read_lines([text], shard.line_from, shard.byte_from))

    async def _ask_all(self, lines: list[Line], collected: ShardResults) -> None:
        async with asyncio.TaskGroup() as group:
            while self._begun < len(lines) and await self._lanes.enter(self._lane, self._is_over):
                self._begun += 1
                self._begin(lines[self._begun - 1], collected, group)
        for line in lines[self._begun :]:
            self._leave_out(line, collected)

    def _begin(self, line: Line, collected: ShardResults, group: asyncio.TaskGroup) -> None:
        """Ask for a line that has entered its lane. It leaves with its task, also if that never takes a step."""
        asking = self._ask(line, collected)
        try:
            task = group.create_task(asking)
        except RuntimeError:  # the group is ending: another line failed while this one waited for its turn
            asking.close()
            self._lanes.leave(self._lane)
            raise
        self._asking.add(task)
        task.add_done_callback(lambda _: self._end(task, line, collected))

    def _end(self, task: asyncio.Task[None], line: Line, collected: ShardResults) -> None:
        self._asking.discard(task)
        self._lanes.leave(self._lane)
        if task.cancelled():  # before its first step, so it did not say so itself
            self._leave_out(line, collected)

    async def _ask(self, line: Line, collected: ShardResults) -> None:
        try:
            said = await self._said(line)
        except asyncio.CancelledError:
            said = PutBack(had_its_chance=True)
        match said:
            case Answered(text, used):
                collected.complete(text)
                self._used.append(used)
            case Failed(text):
                collected.fail(text)
            case PutBack(had_its_chance):
                self._had_its_chance |= had_its_chance
                self._leave_out(line, collected)

    async def _said(self, line: Line) -> Answered | Failed | PutBack:
        try:
            request = read_request(line.text, self._endpoint)
        except StudioError as error:  # it was judged by other rules than today's
            id = self._id(line)
            return Failed(results.refused(id, f"req_{id.hex}", custom_id_of(line.text), error))
        return await self._asker.ask(self.shard, line.number, request)

    def _leave_out(self, line: Line, collected: ShardResults) -> None:
        """A line that did not run fails with its batch, or goes back."""
        why = self._why_not
        if why is None:
            self._put_back.append(LineAt(line.number, line.byte_from, line.byte_until))
            return
        self._fail(line, collected, why)

    def _fail(self, line: Line, collected: ShardResults, why: NotRun) -> None:
        collected.fail(results.not_run(self._id(line), custom_id_of(line.text), why))

    def _id(self, line: Line) -> UUID:
        return line_id(self.shard.batch_id, line.number, clock.now())

    def _is_over(self) -> bool:
        return self.stop is not None or self._is_asleep()
