"""The journal by itself: what is durable, what a torn tail is, whom it belongs to."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.journal import Journal, JournalBroken, JournalLocked, lock_of
from serving.journal_segments import read_records
from studio import ids
from tests.serving.journals import event, write


async def test_what_was_appended_is_read_in_order_without_a_gap(tmp_path: Path) -> None:
    path, events = await write(tmp_path, 100)
    records = [record for record, _ in read_records(path)]
    assert [record.event for record in records] == events
    assert [record.source_seq for record in records] == list(range(1, 101))


async def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, _ = await write(tmp_path, 10)
    positions = [position for _, position in read_records(path)]
    assert [record.source_seq for record, _ in read_records(path, positions[3])] == [5, 6, 7, 8, 9, 10]
    assert [record.source_seq for record, _ in read_records(path, 0, positions[3])] == [1, 2, 3, 4]


async def test_waiters_share_syncs(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, ids.uuid7())
    syncs = 0

    def counting_sync() -> None:
        nonlocal syncs
        syncs += 1

    journal._sync = counting_sync  # type: ignore[method-assign]
    await asyncio.gather(*(journal.append(event()) for _ in range(500)))
    assert syncs <= 2
    await journal.close()


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(min_value=1, max_value=400))
def test_a_torn_tail_loses_only_what_was_torn(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, _ = asyncio.run(write(tmp_path_factory.mktemp("torn"), 10))
    positions = [position for _, position in read_records(path)]
    size = positions[-1] - cut
    os.truncate(path, size)
    assert [position for _, position in read_records(path)] == [position for position in positions if position <= size]


async def test_a_flipped_bit_ends_the_reading(tmp_path: Path) -> None:
    path, _ = await write(tmp_path, 10)
    positions = [position for _, position in read_records(path)]
    content = bytearray(path.read_bytes())
    content[positions[6] + 20] ^= 1
    path.write_bytes(content)
    assert [record.source_seq for record, _ in read_records(path)] == [1, 2, 3, 4, 5, 6, 7]


async def test_zeros_after_a_power_cut_are_no_records(tmp_path: Path) -> None:
    path, _ = await write(tmp_path, 2)
    *_, end = [position for _, position in read_records(path)]
    os.truncate(path, end)  # without its seal
    with path.open("ab") as file:
        file.write(struct.pack("<II", 0, 0) * 100)
    assert len(list(read_records(path))) == 2


async def test_a_living_journal_cannot_be_taken(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, ids.uuid7())
    with pytest.raises(JournalLocked):
        lock_of(journal.directory)
    await journal.close()
    os.close(lock_of(tmp_path / str(journal.source_id)))


async def test_a_full_disk_refuses_all_later_work(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, ids.uuid7())
    await journal.append(event())

    def full(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    journal._write = full  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(JournalBroken):
            await journal.append(event())
    assert journal.broken
    await journal.close()
    assert len(list(read_records(journal.path))) == 1


async def test_an_event_is_not_durable_before_its_sync_has_ended(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, ids.uuid7())

    def failing_sync() -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal._sync = failing_sync  # type: ignore[method-assign]
    with pytest.raises(JournalBroken):
        await journal.append(event())
    assert journal.durable_seq == 0
    await journal.close()
