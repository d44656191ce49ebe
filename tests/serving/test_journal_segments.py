"""A journal in segments: each ends with a seal, what was durable and is gone is noticed, and whatever fails between two
segments fails the write that follows and nothing before it."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest

from serving import journal as writing
from serving.journal import Journal, JournalBroken
from serving.journal_segments import Reading, read_records, segments, whole_in
from studio import ids
from tests.serving.journals import event, write_one_by_one

COUNT = 40


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few records."""
    monkeypatch.setattr(writing, "SEGMENT_BYTES", 2000)


async def test_each_segment_is_named_by_its_first_record_and_reading_goes_on_after_any(
    small: None, tmp_path: Path
) -> None:
    directory, events = await write_one_by_one(tmp_path, COUNT)
    found = segments(directory)
    assert len(found) > 4
    for first_seq, path in found:
        assert next(read_records(path))[0].source_seq == first_seq
        assert path.stat().st_size < 3000
    for after in range(COUNT + 1):
        reading = Reading(directory, after)
        assert [record.event for record in reading] == events[after:]
        assert reading.damage is None
        left = found[len(whole_in(found, after)) :]
        assert left[0].first_seq <= after + 1
        assert len(left) == 1 or left[1].first_seq > after + 1


async def test_a_segment_that_is_old_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, _ = await write_one_by_one(tmp_path, 5)
    assert len(segments(directory)) == 1
    monkeypatch.setattr(writing, "SEGMENT_AGE", timedelta(0))
    directory, _ = await write_one_by_one(tmp_path, 5)
    assert [one.first_seq for one in segments(directory)] == [1, 2, 3, 4, 5]


async def test_a_sealed_segment_that_lost_a_byte_or_is_missing_is_damage_and_the_others_are_read(
    small: None, tmp_path: Path
) -> None:
    directory, _ = await write_one_by_one(tmp_path, COUNT)
    found = segments(directory)
    second, whole = found[1], found[1].path.read_bytes()
    beyond = set(range(found[2].first_seq, COUNT + 1))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (bytes(flipped), whole[:-1], whole[: len(whole) // 2], None):
        if content is None:
            second.path.unlink()
        else:
            second.path.write_bytes(content)
        reading = Reading(directory, after=0)
        numbers = [record.source_seq for record in reading]
        assert reading.damage is not None
        assert numbers == sorted(set(numbers))
        assert set(range(1, second.first_seq)) | beyond <= set(numbers)
        # What the database has is not missed.
        known = Reading(directory, after=found[2].first_seq - 1)
        assert {one.source_seq for one in known} == beyond
        assert known.damage is None


async def test_the_torn_tail_of_the_last_segment_is_no_damage(small: None, tmp_path: Path) -> None:
    directory, _ = await write_one_by_one(tmp_path, COUNT)
    last = segments(directory)[-1]
    os.truncate(last.path, last.path.stat().st_size - 60)
    reading = Reading(directory, after=0)
    numbers = [record.source_seq for record in reading]
    assert numbers == list(range(1, len(numbers) + 1))
    assert COUNT - 1 <= len(numbers) <= COUNT
    assert reading.damage is None


@pytest.mark.parametrize("failing", ["_write", "_sync", "new file", "directory"])
async def test_what_fails_between_two_segments_fails_the_write_that_follows(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(tmp_path, ids.uuid7())
    for _ in range(3):
        await journal.append(event())
    monkeypatch.setattr(writing, "SEGMENT_BYTES", 1)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    match failing:
        case "new file":
            monkeypatch.setattr(writing, "_new_file", fail)
        case "directory":
            monkeypatch.setattr(writing, "sync_directory", fail)
        case _:
            monkeypatch.setattr(journal, failing, fail)
    for result in await asyncio.gather(*(journal.append(event()) for _ in range(2)), return_exceptions=True):
        assert isinstance(result, JournalBroken)
    assert journal.broken
    await journal.close()
    reading = Reading(journal.directory, after=0)
    assert [record.source_seq for record in reading] == [1, 2, 3]
    assert reading.damage is None
