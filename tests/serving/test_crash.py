"""The promise: every request whose last byte reached its client is in `usage_events` exactly once, whatever is killed.

Small here, full with `make chaos`; STUDIO_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from sqlalchemy import Engine

from serving.journal_segments import segments
from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.gateway_process import EMBEDDING, GatewayProcess, attach, wait_until
from tests.serving.ledger import events, numbers_have_no_gap, open_sources, outage
from tests.serving.load import CLIENTS, ROUNDS, SEED, Delivered, load, some_answers
from tests.serving.mixed_load import Seen, Work, mixed_load, total
from tests.stub_engine import StubEngine

pytestmark = pytest.mark.chaos


@contextmanager
def killed_at_the_end(gateway: GatewayProcess) -> Iterator[None]:
    try:
        yield
    finally:
        gateway.kill()


async def crash_under_load(gateway: GatewayProcess, key: CreatedKey, rounds: int) -> Delivered:
    """Kill the gateway at a random moment of full load, `rounds` times; start it again each time."""
    dice = random.Random(SEED)
    delivered: Delivered = {}
    for _ in range(rounds):
        gateway.start()
        async with load(gateway.url, key.text, dice, delivered):
            await some_answers(delivered, dice)
            await asyncio.sleep(dice.uniform(0, 1))
            gateway.kill()
    gateway.start()
    return delivered


async def test_a_killed_gateway_bills_every_request_once(
    database: TestDatabase, catalog: None, operator: Engine, api_key: CreatedKey, tmp_path: Path
) -> None:
    """Where nobody is killed, events equal the engine's own counters. At a kill they may be less, by what was in flight
    at most: an engine has worked for a request whose usage its gateway never heard of or never wrote down, and nobody
    pays for that. More than the engine has counted is never billed."""
    dice, seen, calm = random.Random(SEED), Seen(), Seen()
    gateway = GatewayProcess(database, tmp_path, "tests.serving.small_segments")
    with StubEngine(tokens_per_second=500) as engine, killed_at_the_end(gateway):
        attach(operator, engine.url)
        attach(operator, engine.url, EMBEDDING)

        def worked() -> Work:
            wait_until(lambda: engine.counters().requests_running == 0)
            return Work(engine.counters().prompt_tokens, engine.counters().generation_tokens)

        for number in range(ROUNDS):
            gateway.start()
            async with mixed_load(gateway.url, api_key.text, dice, seen):
                await some_answers(seen.delivered, dice)
                with outage(database) if number % 5 == 1 else nullcontext():
                    await some_answers(seen.delivered, dice)
                    await asyncio.sleep(dice.uniform(0, 1))
                    gateway.kill()
        gateway.start()
        wait_until(lambda: open_sources(database) == 1, seconds=30)
        billed, had_worked = billed_work(database), worked()
        async with mixed_load(gateway.url, api_key.text, dice, calm):
            await some_answers(calm.delivered, dice)
            with outage(database):
                await asyncio.to_thread(wait_until, lambda: gateway.health()["database"] == "away")
                await some_answers(calm.delivered, dice)
        at_last = worked()
        # A second after the last event, what it wrote in all this time is gone but for two segments.
        wait_until(lambda: len(segments(living_journal(gateway))) <= 2)
        assert segments(living_journal(gateway))[0].first_seq > 1, "it never came to a second segment"
        gateway.stop()

    assert open_sources(database) == 0
    assert list(gateway.journal_dir.iterdir()) == []
    assert numbers_have_no_gap(database), SEED
    of_calm = {id: work for id, work in billed_work(database).items() if id not in billed}
    assert max(Counter(event.request_id for event in events(database)).values()) == 1

    assert seen.delivered.items() <= billed.items(), SEED
    assert len(seen.delivered) > ROUNDS * CLIENTS
    # What is billed beyond that was left by its client, or in flight at a kill: at most one request of each client.
    assert len(billed.keys() - seen.delivered.keys() - seen.left.keys()) <= len(seen.cut) <= ROUNDS * CLIENTS
    unbilled = difference(had_worked, total(billed.values()))
    in_flight = total([*seen.cut, *(work for id, work in seen.left.items() if id not in billed)])
    assert 0 <= unbilled.prompt <= in_flight.prompt, SEED
    assert 0 <= unbilled.completion <= in_flight.completion, SEED

    assert calm.cut == []
    assert of_calm.keys() == calm.delivered.keys() | calm.left.keys(), SEED
    assert calm.left, SEED
    assert calm.delivered.items() <= of_calm.items(), SEED
    assert total(of_calm.values()) == difference(at_last, had_worked), SEED


def living_journal(gateway: GatewayProcess) -> Path:
    """Of the running gateway: the others are adopted."""
    [living] = gateway.journal_dir.iterdir()
    return living


def billed_work(database: TestDatabase) -> dict[str, Work]:
    """By request."""
    return {one.request_id: Work(one.engine_prompt_tokens, one.completion_tokens) for one in events(database)}


def difference(one: Work, other: Work) -> Work:
    return Work(one.prompt - other.prompt, one.completion - other.completion)


@pytest.mark.parametrize("arguments", [(), ("--without-sync",)], ids=["synced", "without the sync"])
async def test_a_power_cut_loses_nothing_because_of_the_sync(
    database: TestDatabase,
    catalog: None,
    operator: Engine,
    api_key: CreatedKey,
    tmp_path: Path,
    arguments: tuple[str, ...],
) -> None:
    """On a disk that forgets what was not synced, the same crash loses nothing. Without the sync it does, which shows
    that this test would notice a journal that answers too early."""
    gateway = GatewayProcess(database, tmp_path, "tests.serving.forgetful_disk", *arguments)
    with StubEngine(tokens_per_second=500) as engine, killed_at_the_end(gateway):
        attach(operator, engine.url)
        delivered = await crash_under_load(gateway, api_key, 1)
        wait_until(lambda: open_sources(database) == 1, seconds=30)
        lost = delivered.keys() - {event.request_id for event in events(database)}
        assert len(delivered) > CLIENTS
        assert bool(lost) == (arguments != ())
