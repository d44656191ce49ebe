"""Attempts at shards that go wrong: lanes stay counted, and no line is forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from serving.batches import attempt as attempts
from serving.batches.asking import Answered, Asker, Failed, PutBack
from serving.batches.attempt import Attempt
from serving.batches.lanes import Lanes
from serving.batches.lines import BatchRequest
from serving.batches.results import ShardResults
from serving.batches.shards import Shard
from studio.objects import ObjectStore
from tests.serving.batches.orders import line
from tests.serving.batches.test_lost_answers import SHARD
from tests.serving.test_wire import BASE

LANE = BASE.id
STORE = cast("ObjectStore", None)  # its two uses are replaced below


class SomeAsker:
    """Answers what it is told, line by line; an exception is raised."""

    def __init__(self, **said: Failed | PutBack | Exception) -> None:
        self._said = said

    async def ask(self, shard: Shard, number: int, request: BatchRequest) -> Answered | Failed | PutBack:
        said = self._said.get(request.custom_id)
        if said is None:
            await asyncio.sleep(60)
        if isinstance(said, Exception):
            raise said
        return said or PutBack(had_its_chance=True)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Error lines of the attempts, in place of a store."""
    texts: list[bytes] = []

    def store(collected: ShardResults, *_: object) -> tuple[str | None, str | None]:
        collected._errors.seek(0)
        texts.extend(collected._errors.read().splitlines())
        return None, "errors" if collected.failed else None

    monkeypatch.setattr(ShardResults, "store", store)
    return texts


def attempt_at(monkeypatch: pytest.MonkeyPatch, lanes: Lanes, asker: SomeAsker, *lines: str) -> Attempt:
    text = "\n".join(lines).encode()
    monkeypatch.setattr(attempts, "read_span", lambda *_: text)
    shard = replace(SHARD, line_until=1 + len(lines), byte_until=len(text))
    return Attempt(shard, LANE, lanes, cast("Asker", asker), lambda: False)


def busy(lanes: Lanes) -> int:
    return lanes._in_flight[LANE] + lanes._waiting[LANE]


async def test_a_line_that_fails_unforeseen_leaves_no_count_behind(
    monkeypatch: pytest.MonkeyPatch, stored: list[bytes]
) -> None:
    lanes = Lanes(lambda _: 2)
    asker = SomeAsker(b=ZeroDivisionError())
    attempt = attempt_at(monkeypatch, lanes, asker, line("a"), line("b"), line("c"), line("d"))
    with pytest.raises(ExceptionGroup):
        await attempt.run(STORE, "")
    assert busy(lanes) == 0


async def test_a_line_that_cannot_be_read_any_more_fails_alone(
    monkeypatch: pytest.MonkeyPatch, stored: list[bytes]
) -> None:
    lanes = Lanes(lambda _: 2)
    asker = SomeAsker(a=Failed(b"refused\n"))
    outcome = await attempt_at(monkeypatch, lanes, asker, line("a"), "{", line("odd", method="GET")).run(STORE, "")
    assert (outcome.failed, outcome.unfinished) == (3, [])
    assert any(b'"custom_id":"odd"' in text and b"invalid_method" in text for text in stored)
    assert busy(lanes) == 0


async def test_a_line_that_is_cut_before_its_first_step_goes_back(
    monkeypatch: pytest.MonkeyPatch, stored: list[bytes]
) -> None:
    lanes = Lanes(lambda _: 1)
    attempt = attempt_at(monkeypatch, lanes, SomeAsker(), line("a"), line("b"))
    begin = attempt._begin

    def begin_and_cut(*arguments: object) -> None:
        begin(*arguments)  # type: ignore[arg-type]  # passed on
        attempt.stop = "worker"
        attempt.abandon()

    monkeypatch.setattr(attempt, "_begin", begin_and_cut)
    outcome = await attempt.run(STORE, "")
    assert [(span.line_from, span.line_until) for span in outcome.unfinished] == [(1, 3)]
    assert busy(lanes) == 0


async def test_who_gives_up_says_so_for_every_line(monkeypatch: pytest.MonkeyPatch, stored: list[bytes]) -> None:
    attempt = attempt_at(monkeypatch, Lanes(lambda _: 1), SomeAsker(), line("a"), "", "{")
    outcome = await attempt.give_up(STORE, "")
    assert (outcome.failed, outcome.error_key, outcome.unfinished) == (2, "errors", ())
    assert [b"internal_error" in text for text in stored] == [True, True]


async def test_who_gives_up_and_cannot_even_read_counts_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = attempt_at(monkeypatch, Lanes(lambda _: 1), SomeAsker(), line("a"), line("b"))
    monkeypatch.setattr(attempts, "read_span", lambda *_: 1 / 0)
    outcome = await attempt.give_up(STORE, "")
    assert (outcome.failed, outcome.error_key) == (2, None)
