"""A writer and its shipper that are killed at each step between two segments, and at each removal of one:
`python -m tests.serving.dies_rotating FOLDER URL`. For each step a process of its own, until one gets through alive.

Each writes a journal below `FOLDER/<its number>`; the last number is that of the one that lived. What they were told to
be durable stands in `FOLDER/told`, a line for each request.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from serving import journal as writing
from serving import shipper as shipping
from serving.journal import Journal
from serving.journal_segments import segments, sync_directory
from serving.shipper import Shipper
from studio import ids
from tests.serving.gateway_process import wait_until
from tests.serving.journals import event

EVENTS = 3  # each in a segment of its own


class Deadly:
    """Kills its process at the step of this number."""

    def __init__(self, last: int) -> None:
        self._steps, self._last = itertools.count(1), last

    def step(self) -> None:
        if next(self._steps) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with a step before it and one after."""

        def stepping(*arguments: Any, **keywords: Any) -> Any:
            self.step()
            result = function(*arguments, **keywords)
            self.step()
            return result

        return stepping


def is_tidy(journal: Journal, shipper: Shipper, count: int) -> bool:
    """Whether so many events are shipped, and all but the growing segment and the newest of the others gone."""
    return shipper.shipped_seq >= count and len(segments(journal.directory)) <= min(count, 2)


async def work(folder: Path, url: str, number: int) -> None:
    """Write and ship `EVENTS`, each before the next."""
    journal, deadly = Journal.create(folder / str(number), ids.uuid7()), Deadly(number)
    shipper = Shipper(journal, url)
    shipper.start()
    write, seal = journal._write, journal._seal

    def write_in_halves(data: bytes) -> None:
        write(data[: len(data) // 2])
        deadly.step()
        write(data[len(data) // 2 :])

    def seal_in_halves() -> None:
        with patch.object(journal, "_write", write_in_halves):
            seal()

    unlink = Path.unlink
    with (
        patch.object(writing, "SEGMENT_BYTES", 1),
        patch.object(writing, "_new_file", deadly.around(writing._new_file)),
        patch.object(writing, "sync_directory", deadly.around(sync_directory)),
        patch.object(journal, "_seal", deadly.around(seal_in_halves)),
        patch.object(Path, "unlink", deadly.around(unlink)),
        (folder / "told").open("a", buffering=1) as told,
    ):
        for count in range(1, EVENTS + 1):
            one = event()
            await journal.append(one)
            told.write(f"{one.request_id}\n")
            await asyncio.to_thread(wait_until, lambda wanted=count: is_tidy(journal, shipper, wanted), 60)
        await journal.close()
        await asyncio.to_thread(shipper.stop)


def main() -> None:
    """Each step in turn."""
    folder, url = Path(sys.argv[1]), sys.argv[2]
    shipping.HEARTBEAT = shipping.GATHERING = timedelta(milliseconds=2)
    for number in itertools.count(1):
        child = os.fork()
        if not child:
            asyncio.run(work(folder, url, number))
            os._exit(0)
        _, how = os.waitpid(child, 0)
        if how != signal.SIGKILL:
            sys.exit(how)


if __name__ == "__main__":
    main()
