"""The supervisor: order, restarts, failed starts, and that nothing is ever left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import process_tree
from local.services import Service, in_start_order
from local.state import ServiceState, StackPhase, StackState
from studio.settings import REPOSITORY
from tests.local.eventually import eventually

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Tree:
    """A running scene: the guard, and the supervisor below it."""

    folder: Path
    guard: subprocess.Popen[str]

    @property
    def supervisor(self) -> int:
        """The guard's only child."""
        (pid,) = process_tree.children(self.guard.pid)
        return pid

    @property
    def state(self) -> StackState:
        """What it last wrote."""
        state = StackState.read(self.folder / "state.json")
        assert state is not None
        return state

    def is_in(self, phase: StackPhase) -> bool:
        """Whether it has come so far."""
        return (self.folder / "state.json").exists() and self.state.phase is phase

    def journal(self) -> list[str]:
        """What the servers wrote down, in order."""
        return (self.folder / "journal").read_text().splitlines()

    def ends(self) -> tuple[int, str]:
        """Exit status and what it said, once it has ended."""
        _, words = self.guard.communicate(timeout=TIMEOUT_SECONDS)
        return self.guard.returncode, words

    def left(self) -> list[int]:
        """Processes of the scene that still run: all of them write into the folder."""
        return [pid for pid in process_tree.writing_into(self.folder) if process_tree.is_running(pid)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Tree]]:
    """Start a scene."""
    trees: list[Tree] = []

    def begin(scene: str) -> Tree:
        command = [sys.executable, "-m", "tests.local.supervised", str(tmp_path), scene]
        guard = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        trees.append(Tree(tmp_path, guard))
        return trees[-1]

    yield begin
    for tree in trees:
        if tree.guard.poll() is None:
            tree.guard.terminate()
            tree.guard.communicate(timeout=TIMEOUT_SECONDS)


@pytest.fixture
def running(start: Callable[[str], Tree]) -> Tree:
    """The chain of three servers, ready."""
    tree = start("chain")
    eventually(lambda: tree.is_in(StackPhase.READY), "the chain is ready")
    return tree


def test_services_start_after_what_they_need_and_stop_before_it(running: Tree) -> None:
    assert running.state.services["step"].state is ServiceState.DONE
    running.guard.terminate()
    assert running.ends()[0] == 0
    started_and_stopped = ["start first", "start second", "start third", "stop third", "stop second", "stop first"]
    assert running.journal() == started_and_stopped
    assert running.is_in(StackPhase.STOPPED)
    assert not running.left()


def test_a_killed_child_is_started_again_and_what_it_had_started_is_ended(running: Tree) -> None:
    before = running.state.services["second"]
    assert before.pid is not None
    (grandchild,) = process_tree.children(before.pid)
    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = running.state.services["second"]
        return now.state is ServiceState.READY and now.pid != before.pid

    eventually(is_back, "second runs again")
    assert running.state.services["second"].restarts == 1
    assert running.state.services["first"].restarts == 0
    eventually(lambda: not process_tree.is_running(grandchild), "the orphan is gone")
    running.guard.terminate()
    _, words = running.ends()
    assert "second was killed by SIGKILL." in words


def test_ctrl_c_stops_everything(running: Tree) -> None:
    running.guard.send_signal(signal.SIGINT)
    assert running.ends()[0] == 0
    assert not running.left()


def test_kill_9_of_the_supervisor_leaves_nothing(running: Tree) -> None:
    os.kill(running.supervisor, signal.SIGKILL)
    status, words = running.ends()
    assert status == 128 + signal.SIGKILL
    assert "What was guarded was killed by SIGKILL" in words
    assert not running.left()


def test_kill_9_of_the_guard_stops_everything_in_order(running: Tree) -> None:
    running.guard.kill()
    running.ends()
    eventually(lambda: not running.left(), "nothing is left")
    assert running.journal()[-3:] == ["stop third", "stop second", "stop first"]


def test_a_failed_start_is_one_sentence_with_the_reason_and_stops_the_rest(start: Callable[[str], Tree]) -> None:
    tree = start("broken")
    status, words = tree.ends()
    assert status == 1
    assert f"second ended with exit status 1 before it was ready; {tree.folder / 'second.log'} ends with:" in words
    assert "the configuration is wrong" in words
    assert tree.state.failure is not None
    assert tree.state.services["second"].state is ServiceState.FAILED
    assert not tree.left()


def test_a_service_that_never_answers_is_given_up(start: Callable[[str], Tree]) -> None:
    tree = start("silent")
    status, words = tree.ends()
    assert status == 1
    assert "mute was not ready after 0 s" in words
    assert not tree.left()


def test_what_requests_do_not_need_cannot_fail_the_start(start: Callable[[str], Tree]) -> None:
    tree = start("unimportant")
    eventually(lambda: tree.is_in(StackPhase.READY), "ready without the extra service")
    eventually(lambda: tree.state.services["extra"].restarts > 0, "it is tried again all the same")


def test_a_circle_of_dependencies_is_refused() -> None:
    services = (Service("a", (), depends_on=("b",)), Service("b", (), depends_on=("a",)))
    with pytest.raises(ValueError, match="a -> b -> a"):
        in_start_order(services)


def test_an_unknown_dependency_is_refused() -> None:
    with pytest.raises(ValueError, match="a depends on b, which is no service"):
        in_start_order((Service("a", (), depends_on=("b",)),))
