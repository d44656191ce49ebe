"""A journal is shipped twice: by two shippers at once, again after an acknowledgement that was lost, from a copy of its
folder. Each event is there once; where two tell different things of one id, neither wins.

Small here, full with `make chaos`; STUDIO_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest
from sqlalchemy import Engine

from serving import shipper
from serving.journal import Journal
from serving.journal_segments import Reading, Record, segments
from serving.shipper import Shipper
from serving.usage_event import UsageEvent
from studio import ids
from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.serving.journals import event, write
from tests.serving.ledger import events, numbers_have_no_gap, open_sources
from tests.serving.load import CLIENTS, ROUNDS, SEED, Delivered, load
from tests.stub_engine import StubEngine

pytestmark = pytest.mark.chaos


@asynccontextmanager
async def shipping(journal_dir: Path, database: TestDatabase) -> AsyncIterator[tuple[Journal, Shipper]]:
    """The shipper of a gateway that starts in a journal folder and adopts what lies there."""
    journal = Journal.create(journal_dir, ids.uuid7())
    shipper = Shipper(journal, database.url("shipper"))
    shipper.start()
    try:
        yield journal, shipper
    finally:
        await journal.close()
        await asyncio.to_thread(shipper.stop)


async def adopt(journal: Path, database: TestDatabase) -> None:
    """Ship a journal as another gateway does that starts beside it."""
    async with shipping(journal.parent, database):
        await asyncio.to_thread(wait_until, lambda: not journal.exists(), 30)


def copied(journal: Path, folder: Path) -> Path:
    """A journal of the same name in another folder."""
    return shutil.copytree(journal, folder / journal.name)


def shipped(database: TestDatabase) -> Counter[str]:
    """How often each request is there."""
    return Counter(one.request_id for one in events(database))


def quarantined(database: TestDatabase) -> list[tuple[UUID, str]]:
    """Events in question, and why."""
    with database.superuser() as connection:
        return connection.execute("select event_id, reason from quarantine order by id").fetchall()


async def test_shippers_of_the_same_journal_meet(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "SHIPMENT_RECORDS", 50)  # many shipments that can meet
    written: list[UsageEvent] = []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        path, new = await write(folder / "a", 500)
        written += new
        journals = [path.parent, copied(path.parent, folder / "b"), copied(path.parent, folder / "c")]
        await asyncio.gather(*(adopt(journal, database) for journal in journals))
    assert shipped(database) == Counter(one.request_id for one in written)
    assert numbers_have_no_gap(database)
    assert open_sources(database) == 0


async def test_a_copy_that_is_found_later_changes_nothing(database: TestDatabase, tmp_path: Path) -> None:
    path, written = await write(tmp_path / "here", 20)
    copy = copied(path.parent, tmp_path / "later")
    await adopt(path.parent, database)
    await adopt(copy, database)
    assert shipped(database) == Counter(one.request_id for one in written)
    assert numbers_have_no_gap(database)


async def test_a_lost_acknowledgement_is_asked_for_again(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the commit: the shipment is sent once more, and is known."""
    ship, sent = shipper._ship, []

    def ship_and_break_off(connection: psycopg.Connection, source_id: UUID, records: Iterable[Record]) -> None:
        ship(connection, source_id, records)
        sent.append(source_id)
        if len(sent) == 1:
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(shipper, "_ship", ship_and_break_off)
    one = event()
    async with shipping(tmp_path, database) as (own, _):
        await own.append(one)
        await asyncio.to_thread(wait_until, lambda: len(sent) == 2)
    assert shipped(database) == {one.request_id: 1}
    assert numbers_have_no_gap(database)


async def test_a_copy_that_tells_other_tokens_puts_both_in_quarantine(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_id = ids.uuid7()
    honest = [event() for _ in range(20)]
    forged = [*honest[:7], msgspec.structs.replace(honest[7], completion_tokens=6), *honest[8:]]
    journals = []
    for name, told in (("honest", honest), ("forged", forged)):
        journal = Journal.create(tmp_path / name, source_id)
        for one in told:
            await journal.append(one)
        await journal.close()
        journals.append(journal.directory)
    # Both have asked what is shipped already before either ships: one that comes later has nothing to tell.
    both = threading.Barrier(2)

    def together(directory: Path, after: int) -> Reading:
        both.wait(30)
        return Reading(directory, after)

    monkeypatch.setattr(shipper, "Reading", together)
    await asyncio.gather(*(adopt(journal, database) for journal in journals))
    assert shipped(database) == Counter(one.request_id for one in honest)
    # An event with an entry here is not counted: `tests/billing/test_usage.py`.
    assert quarantined(database) == [(honest[7].id, "same id, other content")]


def test_the_copy_of_a_living_journal_ends_its_gateway_and_loses_nothing(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey, tmp_path: Path
) -> None:
    """Whoever adopts the copy settles what the gateway drew from budgets, so it must not spend on: it ends, and its
    next run ships the rest."""
    body = {"model": CHAT, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    headers = {"authorization": f"Bearer {api_key.text}"}
    with (
        StubEngine() as engine,
        own_gateway,
        httpx.Client(base_url=own_gateway.url, headers=headers) as api,
    ):
        attach(operator, engine.url)
        wait_until(lambda: api.post("/v1/chat/completions", json=body).status_code == 200, seconds=30)
        [living] = own_gateway.journal_dir.iterdir()
        asyncio.run(adopt(copied(living, tmp_path / "there"), database))
        assert api.post("/v1/chat/completions", json=body).status_code == 200
        wait_until(lambda: own_gateway.has_ended, seconds=30)
        assert "source_closed_by_another" in own_gateway.log_path.read_text()
        own_gateway.start()
        wait_until(lambda: not living.exists(), seconds=30)
        own_gateway.stop()
    assert sorted(shipped(database).values()) == [1, 1]
    assert numbers_have_no_gap(database)


async def test_what_is_no_journal_stops_nobody(database: TestDatabase, tmp_path: Path) -> None:
    path, written = await write(tmp_path, 3)
    kept = shutil.copytree(path.parent, tmp_path / f"{path.parent.name}.bak")
    (tmp_path / "notes.txt").write_text("a file")
    (tmp_path / "lost+found").mkdir()
    await adopt(path.parent, database)
    assert shipped(database) == Counter(one.request_id for one in written)
    assert segments(kept)


async def test_a_gateway_killed_before_it_knows_of_its_shipment_ships_nothing_twice(
    database: TestDatabase, catalog: None, operator: Engine, api_key: CreatedKey, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    delivered: Delivered = {}
    sound = GatewayProcess(database, tmp_path)
    with StubEngine(tokens_per_second=500) as engine:
        attach(operator, engine.url)
        deaths = max(1, ROUNDS // 3)
        for _ in range(deaths):
            gateway = GatewayProcess(database, tmp_path, "tests.serving.dies_unacknowledged", str(dice.randint(2, 5)))
            gateway.start()
            try:
                async with load(gateway.url, api_key.text, dice, delivered):
                    pass  # until it has died
            finally:
                gateway.kill()
        with sound:
            wait_until(lambda: open_sources(database) == 1, seconds=30)
            sound.stop()
    assert list(sound.journal_dir.iterdir()) == []
    assert numbers_have_no_gap(database), SEED
    assert max(shipped(database).values()) == 1
    assert delivered.keys() <= shipped(database).keys(), SEED
    assert len(shipped(database)) - len(delivered) <= deaths * CLIENTS
