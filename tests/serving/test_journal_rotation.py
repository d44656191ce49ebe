"""What the database has goes from the journal of a gateway that lives, and nothing else; at no step of that can a kill
lose or double an event."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from serving import journal as writing
from serving import shipper
from serving.journal import LOCK_NAME, Journal
from serving.journal_segments import OLD_NAME, segments
from serving.shipper import DAMAGED, Shipper, adopt_the_dead
from studio.settings import REPOSITORY
from tests.server import TestDatabase
from tests.serving.gateway_process import wait_until
from tests.serving.journals import event, write, write_one_by_one
from tests.serving.ledger import events, numbers_have_no_gap, open_sources, outage
from tests.serving.test_ship_journals import run
from tests.serving.test_shipped_twice import adopt, shipped, shipping

pytestmark = pytest.mark.chaos


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few records, looked after often."""
    monkeypatch.setattr(writing, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(shipper, "HEARTBEAT", timedelta(milliseconds=20))
    monkeypatch.setattr(shipper, "GATHERING", timedelta(milliseconds=2))


async def record(journal: Journal, count: int) -> list[str]:
    """That many events, each with a write of its own; their requests."""
    written = [event() for _ in range(count)]
    for one in written:
        await journal.append(one)
    return [one.request_id for one in written]


async def until_shipped(shipper: Shipper) -> None:
    await asyncio.to_thread(wait_until, lambda: not shipper.pending)


def test_a_kill_at_any_step_between_segments_loses_and_doubles_nothing(database: TestDatabase, tmp_path: Path) -> None:
    url = database.url("shipper").replace("+psycopg", "")
    command = [sys.executable, "-m", "tests.serving.dies_rotating", str(tmp_path), url]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=290)
    assert done.returncode == 0, done.stderr
    *dead, alive = sorted((folder for folder in tmp_path.iterdir() if folder.is_dir()), key=lambda one: int(one.name))
    assert len(dead) >= 20
    assert list(alive.iterdir()) == []
    with psycopg.connect(url, autocommit=True) as connection:
        for folder in dead:
            adopt_the_dead(connection, folder)
            assert list(folder.iterdir()) == []
    told = (tmp_path / "told").read_text().split()
    assert set(shipped(database).values()) == {1}
    assert set(told) <= shipped(database).keys()
    assert len(shipped(database)) - len(told) <= len(dead), "what was being written and had not been told yet"
    assert numbers_have_no_gap(database)
    assert open_sources(database) == 0


async def test_a_living_journal_keeps_what_the_database_has_not(database: TestDatabase, tmp_path: Path) -> None:
    async with shipping(tmp_path, database) as (journal, ship):
        told = await record(journal, 50)
        await until_shipped(ship)
        # One that grows, and the newest of those that are whole in the database.
        await asyncio.to_thread(wait_until, lambda: len(segments(journal.directory)) == 2)
        assert ship.oldest_pending_at is None
        with outage(database):
            told += await record(journal, 50)
            assert ship.pending == 50
            first_seq, _ = segments(journal.directory)[1]
            assert first_seq <= 51
            assert ship.oldest_pending_at is not None
            assert len(segments(journal.directory)) > 5
        await until_shipped(ship)
        await asyncio.to_thread(wait_until, lambda: len(segments(journal.directory)) == 2)
        told += await record(journal, 3)
    assert not journal.directory.exists()
    assert shipped(database) == Counter(told)
    assert numbers_have_no_gap(database)


async def test_a_database_that_lost_its_last_commits_is_given_them_again(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with shipping(tmp_path, database) as (journal, ship):
        told = await record(journal, 50)
        await until_shipped(ship)
        await asyncio.to_thread(wait_until, lambda: len(segments(journal.directory)) == 2)
        kept_from = segments(journal.directory)[0].first_seq
        assert 30 < kept_from < 50
        with database.superuser() as connection, connection.transaction():
            connection.execute("set local session_replication_role = replica")  # past the guards: nobody may do that
            connection.execute("delete from usage_events where source_seq >= %s", (kept_from,))
            connection.execute("update usage_sources set last_seq = %s", (kept_from - 1,))
        await asyncio.to_thread(wait_until, lambda: len(events(database)) == 50)
        told += await record(journal, 1)
    assert shipped(database) == Counter(told)
    assert numbers_have_no_gap(database)


async def test_a_damaged_journal_is_read_as_far_as_it_goes_and_put_aside_for_a_person(
    database: TestDatabase, tmp_path: Path
) -> None:
    directory, written = await write_one_by_one(tmp_path, 40)
    second, third = segments(directory)[1:3]
    second.path.unlink()
    done = run(tmp_path, database.url("shipper"))
    assert done.returncode == 1, "the volume may not go"
    assert "journal_damaged" in done.stderr
    beside = [*written[: second.first_seq - 1], *written[third.first_seq - 1 :]]
    assert shipped(database) == Counter(one.request_id for one in beside)
    assert open_sources(database) == 1, "no day of it is complete"
    aside = directory.with_name(f"{directory.name}{DAMAGED}")
    assert segments(aside)[0].first_seq == 1
    assert not numbers_have_no_gap(database)
    assert run(tmp_path, database.url("shipper")).returncode == 1


async def test_the_journal_of_an_older_gateway_is_adopted(database: TestDatabase, tmp_path: Path) -> None:
    path, written = await write(tmp_path, 5)
    path.rename(path.with_name(OLD_NAME))
    (path.parent / LOCK_NAME).unlink()
    await adopt(path.parent, database)
    assert shipped(database) == Counter(one.request_id for one in written)
    assert open_sources(database) == 0
