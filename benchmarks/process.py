"""What the kernel knows of a process tree: CPU time and memory, from /proc. Linux only, as the benchmarks are."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(root_pid: int) -> tuple[int, ...]:
    """The process and all its descendants."""
    running = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    parents = {pid: _parent(pid) for pid in running}
    members = [root_pid]
    for member in members:  # grows while it is read
        members += [pid for pid, its_parent in parents.items() if its_parent == member]
    return tuple(members)


def cpu_seconds(pids: tuple[int, ...]) -> float:
    """User and system time of these processes, in steps of 10 ms."""
    return sum(int(ticks) for pid in pids for ticks in _stat(pid)[11:13]) / TICKS_PER_SECOND


def pss_bytes(pids: tuple[int, ...]) -> int:
    """Proportional set size: a page shared by n processes counts 1/n in each, so that sums are true."""
    return sum(_pss(pid) for pid in pids)


def rss_bytes(pids: tuple[int, ...]) -> int:
    """Resident set size: cheap to read, and enough to see a process grow."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") for pid in pids)


@contextmanager
def pinned_to(cores: set[int]) -> Iterator[None]:
    """Processes started inside run on these cores; the caller gets its own back afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _parent(pid: int) -> int | None:
    """None when the process has ended."""
    try:
        return int(_stat(pid)[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _pss(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, which may hold spaces and brackets itself: state, ppid, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
