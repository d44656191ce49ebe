"""Linux processes as a tree that ends together: parent-death signals, adoption of orphans, and who is left over.

Nothing here knows what the processes are for.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def adopt_orphans() -> None:
    """From now on, a descendant whose parent dies becomes our child instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def dies_with_parent(sent: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the child receives `sent` as soon as this process ends, however it ends.

    The kernel ties this to the *thread* that forks, so fork from the main thread; it also forgets it at a change of
    user, which subprocess does before it calls `preexec_fn`.
    """
    parent = os.getpid()

    def in_child() -> None:
        _prctl(_PR_SET_PDEATHSIG, sent)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return in_child


def children(pid: int) -> list[int]:
    """Direct children of a process; none when it is gone."""
    return _children_by_parent().get(pid, [])


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    by_parent = _children_by_parent()
    found: list[int] = []
    frontier = by_parent.get(pid, [])
    while frontier:
        found.extend(frontier)
        frontier = [grandchild for child in frontier for grandchild in by_parent.get(child, [])]
    return found


def writing_into(folder: Path) -> list[int]:
    """Processes whose standard output or error is a file in `folder`: how members of a stack are told from others.

    An inherited descriptor survives what a name or an environment variable does not: servers overwrite both.
    """
    prefix = f"{folder}/"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        for descriptor in ("1", "2"):
            with suppress(OSError):
                if str((entry / "fd" / descriptor).readlink()).startswith(prefix):
                    found.append(int(entry.name))
                    break
    return found


def is_running(pid: int) -> bool:
    """Whether the process exists and is not merely waiting to be reaped."""
    try:
        state, _parent = _state_and_parent(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def send(pids: Iterable[int], sent: signal.Signals) -> None:
    """Signal each process that still exists."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sent)


def reap() -> None:
    """Collect the exit of every child that has ended, so that none stays a zombie."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass


def kill_child(pid: int) -> None:
    """Kill a child of ours; one that is slow to die stays a child, to be collected by a later call."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)


def end(find: Callable[[], list[int]], grace_seconds: float) -> int:
    """Terminate what `find` returns until it returns nothing, killing after the grace; how many there were at first."""
    first = find()
    send(first, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while remaining := [pid for pid in find() if is_running(pid)]:
        if time.monotonic() > deadline:
            send(remaining, signal.SIGKILL)
        time.sleep(0.05)
        reap()
    return len(first)


def _state_and_parent(pid: int) -> tuple[str, int]:
    """One-letter state and parent; the name before them may itself hold spaces and parentheses."""
    state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split(maxsplit=2)
    return state, int(parent)


def _children_by_parent() -> dict[int, list[int]]:
    """Every process under its parent. `/proc/*/task/*/children` would be direct, but not every kernel has it."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                found.setdefault(_state_and_parent(int(entry.name))[1], []).append(int(entry.name))
    return found
