"""The stack as a process: lock, port check, state file, supervisor under guard. Also how others find, start and end it.

At most one process holds the lock of a state folder; whoever holds it is the stack.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from local import process_tree
from local.guard import guarded
from local.paths import StatePaths
from local.ports import PortTaken, require_free
from local.service_log import ServiceLog
from local.stack import SECRET_SETTINGS, Stack
from local.state import ServiceState, ServiceStatus, StackPhase, StackState
from local.supervisor import supervise
from studio import logs
from studio.settings import REPOSITORY, settings

_STOP_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.1


def run(stack: Stack) -> int:
    """Be the stack until it is stopped; the exit status. Returns at once when another process is it already."""
    lock = _take_lock(stack.paths)
    if lock is None:
        return 0
    for name in SECRET_SETTINGS:
        os.environ.pop(name, None)
    try:
        require_free(stack.listeners())
    except PortTaken as taken:
        _record(stack, os.getpid(), StackPhase.STOPPED, str(taken), {})
        print(taken, file=sys.stderr)
        return 1
    pid = os.getpid()
    _record(stack, pid, StackPhase.STARTING, None, {})
    return guarded(lambda: _supervise(stack, pid))


def _supervise(stack: Stack, pid: int) -> int:
    configured = settings()
    logs.configure(configured.log_format, configured.log_level)
    failure = asyncio.run(supervise(stack.services(), stack.paths.logs, partial(_record, stack, pid)))
    if failure is not None:
        print(failure, file=sys.stderr)
        return 1
    return 0


def _record(stack: Stack, pid: int, phase: StackPhase, failure: str | None, services: dict[str, ServiceStatus]) -> None:
    StackState(pid, phase, stack.ports.offset, failure, services).write(stack.paths.state)


def start_detached(stack: Stack) -> subprocess.Popen[bytes]:
    """Start the stack as a process of its own that outlives the caller."""
    log = ServiceLog(stack.paths.log("supervisor"))
    log.rotate()
    descriptor = log.open()
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "local.stack_process"],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=REPOSITORY,
            env={
                **os.environ,
                "STUDIO_STATE_DIR": str(stack.paths.root),
                "STUDIO_PORT_OFFSET": str(stack.ports.offset),
            },
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def holder(paths: StatePaths) -> int | None:
    """The process id of the running stack; None when none runs."""
    try:
        descriptor = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode().strip()
        return int(text) if text else None
    finally:
        os.close(descriptor)
    return None


def observe(paths: StatePaths) -> StackState | None:
    """The state file, corrected where its writer is gone: then everything is stopped. None when nothing ever ran."""
    state = StackState.read(paths.state)
    if state is None or holder(paths) == state.pid:
        return state
    stopped = {
        name: replace(status, state=ServiceState.STOPPED, pid=None) if status.pid else status
        for name, status in state.services.items()
    }
    return replace(state, phase=StackPhase.STOPPED, services=stopped)


def stop(paths: StatePaths, progress: Callable[[StackState | None], None] = lambda _: None) -> int:
    """Stop whatever runs of the stack; how many processes had to be ended one by one because nobody led them."""
    pid = holder(paths)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while holder(paths) is not None and time.monotonic() < deadline:
            progress(observe(paths))
            time.sleep(_POLL_SECONDS)
    return process_tree.end(lambda: process_tree.writing_into(paths.logs), grace_seconds=5.0)


def _take_lock(paths: StatePaths) -> int | None:
    """Take the lock for as long as this process and its forked child live; None when it is taken."""
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


if __name__ == "__main__":
    sys.exit(run(Stack.from_environment()))
