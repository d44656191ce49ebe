"""A gateway on a disk that forgets, at a kill, all that was not synced: `python -m tests.serving.forgetful_disk`.

Killing a process alone loses nothing, since the kernel still has what was written. Here written bytes stay in this
process until a sync, as they stay in memory of a machine that loses its power. With `--without-sync` the journal's sync
does nothing: the fault that `test_crash.py` must notice.
"""

from __future__ import annotations

import os
import sys

from serving.__main__ import main
from serving.journal import Journal

_unsynced: dict[int, bytearray] = {}


def _write(journal: Journal, data: bytes) -> None:
    _unsynced.setdefault(id(journal), bytearray()).extend(data)


def _sync(journal: Journal) -> None:
    os.write(journal._file, _unsynced.pop(id(journal)))
    os.fdatasync(journal._file)


def _no_sync(journal: Journal) -> None:
    """Says that it is done."""


if __name__ == "__main__":
    Journal._write = _write  # type: ignore[method-assign]
    Journal._sync = _no_sync if "--without-sync" in sys.argv else _sync  # type: ignore[method-assign]
    main()
