"""One attempt at one shard: its lines are read, asked, collected; then everything is kept at once, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from serving.batches import results
from serving.batches.asking import Answered, Asker, Failed, PutBack
from serving.batches.lanes import Lanes
from serving.batches.lines import Line, read_lines, read_request
from serving.batches.metering import LineUsage, line_id
from serving.batches.planner import LineAt, runs
from serving.batches.results import NotRun, ShardResults
from serving.batches.shards import Outcome, Shard
from serving.tokens.wire import ENDPOINTS
from studio import clock
from studio.object_streams import read_span
from studio.objects import Bucket, ObjectStore

Stop = Literal["cancelled", "expired", "worker"]

_NOT_RUN: dict[Stop, NotRun] = {"cancelled": "batch_cancelled", "expired": "batch_expired"}


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
        )

    def _read(self, store: ObjectStore) -> list[Line]:
        shard = self.shard
        text = read_span(store, Bucket.FILES, shard.input_key, shard.byte_from, shard.byte_until)
        return list(read_lines([text], shard.line_from, shard.byte_from))

    async def _ask_all(self, lines: list[Line], collected: ShardResults) -> None:
        async with asyncio.TaskGroup() as group:
            while self._begun < len(lines) and await self._lanes.enter(self._lane, self._is_over):
                task = group.create_task(self._ask(lines[self._begun], collected))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
                self._begun += 1
        for line in lines[self._begun :]:
            self._leave_out(line, collected)

    async def _ask(self, line: Line, collected: ShardResults) -> None:
        request = read_request(line.text, self._endpoint)
        try:
            said = await self._asker.ask(self.shard, line.number, request)
        except asyncio.CancelledError:
            said = PutBack(had_its_chance=True)
        finally:
            self._lanes.leave(self._lane)
        match said:
            case Answered(text, used):
                collected.complete(text)
                self._used.append(used)
            case Failed(text):
                collected.fail(text)
            case PutBack(had_its_chance):
                self._had_its_chance |= had_its_chance
                self._leave_out(line, collected)

    def _leave_out(self, line: Line, collected: ShardResults) -> None:
        """A line that did not run fails with its batch, or goes back."""
        why = None if self.stop is None else _NOT_RUN.get(self.stop)
        if why is None:
            self._put_back.append(LineAt(line.number, line.byte_from, line.byte_until))
            return
        custom_id = read_request(line.text, self._endpoint).custom_id
        id = line_id(self.shard.batch_id, line.number, clock.now())
        collected.fail(results.not_run(id, custom_id, why))

    def _is_over(self) -> bool:
        return self.stop is not None or self._is_asleep()
