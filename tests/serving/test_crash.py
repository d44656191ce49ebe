"""The promise: every request whose last byte reached its client is in `usage_events` exactly once, whatever is killed.

Small here, full with `make chaos`; STUDIO_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.gateway_process import GatewayProcess, attach, wait_until
from tests.serving.ledger import events, numbers_have_no_gap, open_sources
from tests.serving.load import CLIENTS, ROUNDS, SEED, Delivered, load, some_answers
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
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine(tokens_per_second=500) as engine:
        attach(operator, engine.url)
        delivered = await crash_under_load(own_gateway, api_key, ROUNDS)
        wait_until(lambda: open_sources(database) == 1, seconds=30)
        own_gateway.stop()
        assert open_sources(database) == 0
        assert list(own_gateway.journal_dir.iterdir()) == []
        assert numbers_have_no_gap(database), SEED

        billed = events(database)
        assert max(Counter(event.request_id for event in billed).values()) == 1
        assert len(delivered) > ROUNDS * CLIENTS
        tokens_of = {event.request_id: event.completion_tokens for event in billed}
        assert {id: one.completion_tokens for id, one in delivered.items()}.items() <= tokens_of.items(), SEED
        # What is billed beyond that was in flight at a kill, at most one request of each client.
        assert len(billed) - len(delivered) <= ROUNDS * CLIENTS
        assert sum(tokens_of.values()) <= engine.counters().generation_tokens


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
