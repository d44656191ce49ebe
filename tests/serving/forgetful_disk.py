"""A gateway on a disk that forgets, at a kill, all that was not synced: `python -m tests.serving.forgetful_disk`.

Killing a process alone loses nothing, since the kernel still has what was written. Here written bytes stay in this
process until a sync, as they stay in memory of a machine that loses its power. With `--without-sync` the journal's sync
does nothing: the fault that `test_crash.py` must notice.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

from serving import journal
from serving import process as gateway
from serving.journal import Journal
from tests.serving.small_segments import SEGMENT_BYTES


class ForgetfulJournal(Journal):
    """Its bytes reach the file only when they are synced."""

    _unsynced = b""

    def _write(self, data: bytes) -> None:
        self._unsynced += data

    def _sync(self) -> None:
        super()._write(self._unsynced)
        self._unsynced = b""
        super()._sync()


class HastyJournal(ForgetfulJournal):
    """Says that it has synced."""

    def _sync(self) -> None:
        return


if __name__ == "__main__":
    forgetful = HastyJournal if "--without-sync" in sys.argv else ForgetfulJournal
    with patch.object(gateway, "Journal", forgetful), patch.object(journal, "SEGMENT_BYTES", SEGMENT_BYTES):
        gateway.main()
