"""A gateway whose disk has refused usage: it takes no work, ships what it has, and ends once its volume has room again.
Its supervisor then starts it on a fresh journal.

It does not go on in the same process: after a failed sync nobody knows what of a file is on the disk, and a start is
what happens after each crash anyway.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from serving.journal import Journal
from serving.journal_segments import segments
from serving.shipper import Shipper

LOOK = timedelta(seconds=1)
ROOM = 1 << 20  # bytes that a volume must take before work begins again: some thousand requests
_PROBE = ".room"  # with a dot it is no journal to anybody


class RoomAgain(Exception):
    """The volume takes writes again. This process must end for them to be taken."""


async def end_when_there_is_room(journal: Journal, shipper: Shipper) -> None:
    """For ever, as long as the journal is sound. RoomAgain when it has broken and its volume has room again."""
    while True:
        await asyncio.sleep(LOOK.total_seconds())
        if journal.broken and await asyncio.to_thread(_has_room, journal, shipper):
            raise RoomAgain


def _has_room(journal: Journal, shipper: Shipper) -> bool:
    if not shipper.pending:
        # It is perhaps this journal that fills the volume, and all of it is in the database.
        with suppress(OSError):
            os.truncate(journal.path, 0)
            for one in segments(journal.directory)[:-1]:
                one.path.unlink()
    return takes_writes(journal.directory.parent)


def takes_writes(folder: Path) -> bool:
    """Whether its volume takes `ROOM` bytes and keeps them."""
    probe = folder / _PROBE
    try:
        with probe.open("wb", buffering=0) as file:
            # Not zeros, of which some file systems keep nothing.
            if file.write(os.urandom(ROOM)) < ROOM:
                return False
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return True
