"""The usage journal of one run of a gateway, on its disk. What `append` has returned for survives the process and, with
the disk, the machine. What stands in its files is `journal_segments.py`; bringing it to the database, and removing what
has arrived there, is `shipper.py`.

The directory's name is the source id. A lock is held as long as the writer lives, so nobody takes a living gateway's
journal for a dead one's.

Group commit has no timer: the next write and sync start when the last ended and take along whatever has arrived since.
Measured: 0.3 ms for one waiter, 0.7 ms for 128, where a 2 ms window costs 3 ms for both. A segment that has become
large or old is sealed by the same thread before the next write, and another begun: two syncs for some 200,000 requests.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Self
from uuid import UUID

import structlog

from serving.journal_segments import OLD_NAME, Record, Seal, encoded, encoded_seal, segment, sync_directory
from serving.usage_event import UsageEvent
from studio.errors import ServiceUnavailable

LOCK_NAME = "writer.lock"
SEGMENT_BYTES = 64 << 20
SEGMENT_AGE = timedelta(hours=1)

log = structlog.get_logger()


class JournalBroken(ServiceUnavailable):
    """The disk refused usage: nothing that costs money may be served until the gateway is started on a sound disk
    (`full_disk.py`)."""

    def __init__(self) -> None:
        super().__init__(
            "Usage cannot be recorded at the moment, so no requests are taken. Nothing of this one is billed; send it"
            " again later.",
            retry_after=timedelta(seconds=30),
        )


class JournalLocked(Exception):
    """Another living process writes this journal."""


class End(NamedTuple):
    """How far a journal is durable: the first number of its last segment, and the bytes in it."""

    first_seq: int
    bytes: int


@dataclass(slots=True)
class _Growing:
    """The last segment, as its writing thread knows it: what of it is durable."""

    first_seq: int
    last_seq: int
    began_at: float  # monotonic
    bytes: int = 0
    checksum: int = 0


class Journal:
    """The journal of this process. One event loop appends; one thread of its own writes and syncs."""

    def __init__(self, directory: Path, source_id: UUID) -> None:
        self.source_id = source_id
        self.directory = directory
        self.broken = False
        self.last_seq = 0  # of the last record handed out, durable or not
        self.durable_seq = 0
        self.end = End(1, 0)
        self.on_durable: Callable[[], None] = lambda: None
        self._lock = self._file = -1
        self._growing = _Growing(1, 0, time.monotonic())
        self._thread = ThreadPoolExecutor(1, "journal")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    @classmethod
    def create(cls, journal_dir: Path, source_id: UUID) -> Self:
        """A new journal at `journal_dir/<source id>`. It gets that name only once locked and safe in its folder."""
        unborn = journal_dir / f".{source_id}"
        unborn.mkdir(parents=True)
        journal = cls(journal_dir / str(source_id), source_id)
        journal._lock = lock(unborn / LOCK_NAME, os.O_CREAT | os.O_EXCL)
        journal._file = _new_file(segment(unborn, 1).path)
        sync_directory(unborn)
        unborn.rename(journal.directory)
        sync_directory(journal_dir)
        return journal

    @property
    def path(self) -> Path:
        """The segment that grows."""
        return segment(self.directory, self._growing.first_seq).path

    async def append(self, event: UsageEvent) -> None:
        """Returns when the event is durable. The event stays even if the caller is cancelled while it waits.

        JournalBroken: the event is not kept, unless even taking it back has failed, and no later one will be taken.
        """
        if self.broken:
            raise JournalBroken
        self.last_seq += 1
        record = encoded(Record(self.last_seq, event))
        loop = asyncio.get_running_loop()
        durable = loop.create_future()
        self._waiting.append((record, durable))
        if self._committing is None:
            self._committing = loop.create_task(self._commit())
        await durable

    async def close(self) -> None:
        """Waits for what is on its way, seals the last segment, lets go of the files and of the lock."""
        if self._committing is not None:
            await self._committing
        if not self.broken:
            with suppress(OSError):  # it is whole without a seal, too
                await asyncio.get_running_loop().run_in_executor(self._thread, self._seal)
        self._thread.shutdown()
        os.close(self._file)
        os.close(self._lock)

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and not self.broken:
            batch, self._waiting = self._waiting, []
            data = b"".join(record for record, _ in batch)
            try:
                self.end = await loop.run_in_executor(self._thread, self._make_durable, data, len(batch))
            except OSError as error:
                # After a failed sync the kernel may call the lost pages clean, so trying again would only seem to work.
                self.broken = True
                log.error("journal_broken", path=str(self.path), error=str(error))
                await loop.run_in_executor(self._thread, self._take_back)
                self._waiting = batch + self._waiting
                break
            self.durable_seq += len(batch)
            self.on_durable()
            for _, durable in batch:
                if not durable.done():
                    durable.set_result(None)
        for _, durable in self._waiting:
            if not durable.done():
                durable.set_exception(JournalBroken())
        self._waiting = []
        self._committing = None

    def _make_durable(self, data: bytes, records: int) -> End:
        growing = self._growing
        is_old = time.monotonic() - growing.began_at > SEGMENT_AGE.total_seconds()
        if growing.bytes and (growing.bytes >= SEGMENT_BYTES or is_old):
            growing = self._rotate()
        self._write(data)
        self._sync()
        growing.last_seq += records
        growing.bytes += len(data)
        growing.checksum = zlib.crc32(data, growing.checksum)
        return End(growing.first_seq, growing.bytes)

    def _rotate(self) -> _Growing:
        """Seal the segment and begin the next. In this order, so that whoever finds a segment without a seal before
        another knows that it was damaged; whatever fails on the way fails the write that follows."""
        self._seal()
        first_seq = self._growing.last_seq + 1
        path = segment(self.directory, first_seq).path
        file = _new_file(path)
        try:
            sync_directory(self.directory)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        os.close(self._file)
        self._file, self._growing = file, _Growing(first_seq, first_seq - 1, time.monotonic())
        return self._growing

    def _seal(self) -> None:
        self._write(encoded_seal(Seal(self._growing.last_seq, self._growing.checksum)))
        self._sync()

    def _take_back(self) -> None:
        """Parts of what failed may stand in the file, whole records even. Their callers are told that they pay nothing,
        so whoever adopts the journal must not find them."""
        with suppress(OSError):
            os.ftruncate(self._file, self._growing.bytes)

    # The only two functions that write to the disk after the start: a test puts a disk that forgets in their place.

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def _sync(self) -> None:
        os.fdatasync(self._file)


def lock(path: Path, flags: int = 0) -> int:
    """A file descriptor that holds the journal at `path` for this process alone; JournalLocked when another has it."""
    file = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise JournalLocked(f"{path} belongs to a living process") from error
    return file


def lock_of(directory: Path) -> int:
    """The lock of the journal there, as `lock`; FileNotFoundError where there is none."""
    name = LOCK_NAME if (directory / LOCK_NAME).exists() else OLD_NAME
    return lock(directory / name)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
