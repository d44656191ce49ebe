"""A supervisor of small processes, itself a process: `python -m tests.local.supervised FOLDER SCENE`.

The tests signal it, kill it and look at what is left. The scenes are declared here, since a service holds functions.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from local.guard import guarded
from local.services import Service
from local.state import ServiceStatus, StackPhase, StackState
from local.supervisor import supervise
from studio import logs

# Writes its name when it starts and when it is asked to stop, and has a child that does not listen to anybody.
_SERVER = """
import pathlib, signal, subprocess, sys, time
name, journal = sys.argv[1], pathlib.Path(sys.argv[2])
def note(what):
    with journal.open("a") as file:
        file.write(f"{what} {name}\\n")
def stop(number, frame):
    note("stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
note("start")
while True:
    time.sleep(1)
"""


def _server(folder: Path, name: str, *depends_on: str) -> Service:
    journal = folder / "journal"
    return Service(
        name=name,
        argv=(sys.executable, "-c", _SERVER, name, str(journal)),
        depends_on=depends_on,
        is_ready=lambda: journal.exists() and f"start {name}\n" in journal.read_text(),
    )


def chain(folder: Path) -> tuple[Service, ...]:
    """Three servers and a step between them, declared out of order."""
    step = Service("step", (sys.executable, "-c", "pass"), depends_on=("first",), runs_once=True)
    return _server(folder, "third", "second"), _server(folder, "second", "step"), step, _server(folder, "first")


def broken(folder: Path) -> tuple[Service, ...]:
    """A server, and one that fails at once with a message."""
    words = "import sys; sys.exit('the configuration is wrong')"
    return _server(folder, "first"), Service("second", (sys.executable, "-c", words), is_ready=lambda: False)


def silent(folder: Path) -> tuple[Service, ...]:
    """One that runs but never answers."""
    sleep = "import time; time.sleep(600)"
    never = Service("mute", (sys.executable, "-c", sleep), is_ready=lambda: False, start_timeout_seconds=0.5)
    return _server(folder, "first"), never


def unimportant(folder: Path) -> tuple[Service, ...]:
    """A server, and one that fails but that requests do not need."""
    return _server(folder, "first"), Service("extra", (sys.executable, "-c", "exit(1)"), essential=False)


SCENES: dict[str, Callable[[Path], tuple[Service, ...]]] = {
    scene.__name__: scene for scene in (chain, broken, silent, unimportant)
}


def main(folder: Path, scene: str) -> int:
    """Supervise a scene until stopped."""
    pid = os.getpid()

    def record(phase: StackPhase, failure: str | None, services: dict[str, ServiceStatus]) -> None:
        StackState(pid, phase, 0, failure, services).write(folder / "state.json")

    def work() -> int:
        logs.configure()
        failure = asyncio.run(supervise(SCENES[scene](folder), folder, record))
        if failure is not None:
            print(failure, file=sys.stderr)
        return 0 if failure is None else 1

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
