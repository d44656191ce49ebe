"""The guard: the smallest possible process between what starts processes (supervisor, node agent) and the machine.

It forks, lets the child do the work, and when the child ends, even by `kill -9`, ends every process the child leaves
behind. If the guard itself is killed, the parent-death signal stops the child in good order. It does nothing else,
since what it guards against is that a program which does much may fail.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from local import process_tree

_GRACE_SECONDS = 10.0  # for services that lost their supervisor; the database needs about one second


def guarded(work: Callable[[], int]) -> int:
    """Run `work` in a forked child and return its exit status, when nothing of it is left."""
    process_tree.adopt_orphans()
    prepare = process_tree.dies_with_parent(signal.SIGTERM)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        prepare()
        os._exit(_status_of(work))

    def forward(_number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    signal.signal(signal.SIGHUP, forward)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == child:
            break
    left = process_tree.end(lambda: process_tree.descendants(os.getpid()), _GRACE_SECONDS)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        name = signal.Signals(-code).name
        print(f"What was guarded was killed by {name}; ended {left} processes that it left.", file=sys.stderr)
    return code if code >= 0 else 128 - code


def _status_of(work: Callable[[], int]) -> int:
    """The work's exit status; `os._exit` would otherwise lose both a traceback and buffered output."""
    try:
        return work()
    except BaseException:  # noqa: BLE001 (the last stop of this process: whatever it is, it is shown)
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
