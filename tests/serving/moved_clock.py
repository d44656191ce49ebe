"""A gateway whose wall clock a test moves: `python -m tests.serving.moved_clock FILE`, where FILE holds seconds.

It reads the wall clock in two places, `studio.clock` and the stamps of `studio.ids`; timers go by the monotonic clock,
which no administrator can set. PostgreSQL, engines and clients keep the machine's time.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from serving import process as gateway
from studio import clock


class MovedClock:
    """The test's end: how far the gateway is ahead of the machine, and when that was how much."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history: list[tuple[datetime, datetime, timedelta]] = []
        self.set(timedelta(0))

    def set(self, ahead: timedelta) -> None:
        """Move it, at once."""
        began = datetime.now(UTC)
        written = self.path.with_suffix(".new")
        written.write_text(str(ahead.total_seconds()))
        written.rename(self.path)
        self._history.append((began, datetime.now(UTC), ahead))

    def set_to(self, instant: datetime) -> None:
        """Move it so that it shows `instant` now."""
        self.set(instant - datetime.now(UTC))

    def ahead_between(self, start: datetime, end: datetime) -> list[timedelta]:
        """How far ahead the gateway may have been, in the order of the steps, between two instants of the machine."""
        endings = [written for _, written, _ in self._history[1:]] + [end]
        return [
            ahead
            for (began, _, ahead), until in zip(self._history, endings, strict=True)
            if began <= end and start <= until
        ]


def main(path: Path) -> None:
    """The gateway."""
    real_ns = time.time_ns

    def ahead() -> float:
        return float(path.read_text())

    with (
        patch.object(clock, "now", lambda: datetime.now(UTC) + timedelta(seconds=ahead())),
        patch.object(time, "time_ns", lambda: real_ns() + int(ahead() * 1e9)),
    ):
        gateway.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
