"""Where a training takes place: in a process beside the run (`process.py`), or in a Job of the cluster (`cluster.py`).

`run.py` follows either by the same few words. Progress and result lie in the object store in both cases; what differs
is who starts the trainer, who ends it, and whether it outlives the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from training.adapter_check import Shape
from training.jobs import FineTune
from training.spec import TrainerJob


class TrainerDied(Exception):
    """The trainer ended without an end: killed, or out of memory. The job is tried again."""


class Training(Protocol):
    """A trainer that was started, now or by a run before this one."""

    def poll(self) -> int | None:
        """Its exit status; None while it works, or while nobody can be asked. TrainerDied when there will be none."""

    def trouble(self) -> str:
        """What keeps it from working at present, in a sentence; empty when nothing does."""

    def stop(self) -> None:
        """End it. Nothing writes below the job's prefix any more when this returns."""


class Trainers(Protocol):
    """One place where trainers work."""

    def is_at_work(self, job: FineTune) -> bool | None:
        """Whether a trainer of an earlier run goes on, or has ended unseen; None while nobody can be asked."""

    def base_folder(self, weights_id: str) -> Path:
        """Where the trainer finds the base. Its last part names the content."""

    def base_shapes(self, weights_id: str) -> Mapping[str, Shape]:
        """The tensors of the base, by name."""

    def training(self, job: FineTune, task: TrainerJob | None, folder: Path) -> AbstractContextManager[Training]:
        """A trainer at `task`; None: the one that is at work. `folder` is the run's own and goes with the run."""

    def end(self, job: FineTune) -> None:
        """End what an earlier run may have left. StudioError while that cannot be done."""
