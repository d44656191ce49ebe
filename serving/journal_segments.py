"""The files of a journal: what stands in them, in which order, and whether it is whole. Writing them is `journal.py`.

A journal is a folder: `writer.lock`, and one segment after the other, each named by the number of its first record. A
record is `length | crc32 | payload`, little-endian, the payload msgpack of `Record`. All segments but the last end with
a seal: a record whose length has its highest bit set, with the number of the segment's last record and the checksum of
all bytes before it. So a torn tail, which a power cut leaves and nobody was promised, is told from damage: a sealed
segment that lost a byte, or one that is missing.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from serving.usage_event import UsageEvent

OLD_NAME = "journal.log"  # the one file, without a seal, of gateways before there were segments
_SUFFIX = ".log"
_HEADER = struct.Struct("<II")
_SEAL = 1 << 31


class Record(msgspec.Struct, frozen=True, array_like=True):
    """An event with its number: 1, 2, 3, ... without a gap within one journal."""

    source_seq: int
    event: UsageEvent


class Seal(msgspec.Struct, frozen=True, array_like=True):
    """The end of a segment to which nothing is added."""

    last_seq: int
    checksum: int  # crc32 of every byte before the seal


class Segment(NamedTuple):
    """One file of a journal."""

    first_seq: int
    path: Path


_encode = msgspec.msgpack.Encoder().encode
_record = msgspec.msgpack.Decoder(Record)
_seal = msgspec.msgpack.Decoder(Seal)


def encoded(record: Record) -> bytes:
    """As it stands in the file."""
    payload = _encode(record)
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def encoded_seal(seal: Seal) -> bytes:
    """As it stands in the file."""
    payload = _encode(seal)
    return _HEADER.pack(len(payload) | _SEAL, zlib.crc32(payload)) + payload


def segment(directory: Path, first_seq: int) -> Segment:
    """The one that begins with that record."""
    return Segment(first_seq, directory / f"{first_seq:020}{_SUFFIX}")


def segments(directory: Path) -> list[Segment]:
    """All that are there, oldest first."""
    found = []
    for path in directory.glob(f"*{_SUFFIX}"):
        with suppress(ValueError):
            found.append(Segment(1 if path.name == OLD_NAME else int(path.stem), path))
    return sorted(found)


def whole_in(found: list[Segment], last_seq: int) -> list[Segment]:
    """Those of them all of whose records have numbers up to `last_seq`. The last one grows, so it never counts."""
    return [one for one, following in pairwise(found) if following.first_seq <= last_seq + 1]


def size(directory: Path) -> int:
    """Bytes of all segments. One that is being removed may count or not."""
    total = 0
    for one in segments(directory):
        with suppress(FileNotFoundError):
            total += one.path.stat().st_size
    return total


def read_records(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[Record, int]]:
    """Each whole record of a segment from byte `start` on, with the position after it.

    Stops at the seal, or at the first record that is cut, empty or fails its checksum: the torn tail of a machine that
    lost its power. Nobody was told that a record of such a tail is durable.
    """
    with path.open("rb") as file:
        file.seek(start)
        position = start
        while end is None or position < end:
            length, frame = _frame(file)
            if not frame or length & _SEAL:
                return
            position += len(frame)
            yield _record.decode(frame[_HEADER.size :]), position


class Reading:
    """All records of the journal at `directory` with numbers above `after`, the last that the database has, in order.

    Iterate once; then `damage` says what of them is missing that was durable once, or is None. What can be read beyond
    the damage is read.
    """

    def __init__(self, directory: Path, after: int) -> None:
        self._directory = directory
        self._after = after
        self.damage: str | None = None

    def __iter__(self) -> Iterator[Record]:
        found = segments(self._directory)
        while found and not found[-1].path.stat().st_size:
            found.pop()  # a power cut, or a full disk, before its first record
        known, expected = whole_in(found, self._after), self._after + 1
        for one in found[len(known) :]:
            if one.first_seq > expected:
                self._miss(one, f"the records from {expected} to before it are missing")
            last_seq = yield from self._records_of(one, is_last=one == found[-1])
            expected = max(expected, last_seq + 1)

    def _records_of(self, one: Segment, *, is_last: bool) -> Generator[Record, None, int]:
        """Returns the number of its last record."""
        last_seq, checksum = one.first_seq - 1, 0
        with one.path.open("rb") as file:
            while True:
                length, frame = _frame(file)
                if not frame or length & _SEAL:
                    break
                record = _record.decode(frame[_HEADER.size :])
                last_seq, checksum = record.source_seq, zlib.crc32(frame, checksum)
                if record.source_seq > self._after:
                    yield record
            if frame:
                if _seal.decode(frame[_HEADER.size :]) != Seal(last_seq, checksum):
                    self._miss(one, "its seal speaks of other records")
            elif not is_last:
                self._miss(one, f"it ends after record {last_seq}, without a seal")
        return last_seq

    def _miss(self, one: Segment, what: str) -> None:
        self.damage = self.damage or f"{one.path.name}: {what}"


def _frame(file: BinaryIO) -> tuple[int, bytes]:
    """The next record or seal: its length field, and all of its bytes; none when it is not whole."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return 0, b""
    length, checksum = _HEADER.unpack(header)
    payload = file.read(length & ~_SEAL)
    # A power cut can leave zeros, which would pass as an empty record with a right checksum.
    if not payload or len(payload) < length & ~_SEAL or zlib.crc32(payload) != checksum:
        return 0, b""
    return length, header + payload


def sync_directory(path: Path) -> None:
    """So that names in it outlive a power cut."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
