"""What a trainer is told: everything about one fine-tune that does not change while it runs. No secrets.

Written by `run.py` in the application's environment and read by `trainer.py` in the engine's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REFUSED = 3  # the trainer's exit status when the data cannot be trained on; its last event says why


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of examples in the object store, as it was when it was validated."""

    bucket: str
    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """One training. Two equal specs give the same adapter, bit for bit, on the same machine."""

    base_id: str  # the catalog's name of the base, which the adapter carries
    model_id: str  # whose chat template is used
    weights_dir: str  # a verified local copy of the base
    training: DataFile
    validation: DataFile | None
    n_epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    rank: int
    context_tokens: int  # longer examples are cut, and reported

    @property
    def digest(self) -> str:
        """Names what is trained, wherever it runs: a checkpoint of another digest is not resumed."""
        content = asdict(self) | {"weights_dir": Path(self.weights_dir).name}  # which is named after what it holds
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TrainerJob:
    """One attempt at a training, and where its progress goes."""

    spec: TrainingSpec
    bucket: str
    prefix: str  # of all objects that the trainer writes
    first_seq: int  # of the first event that this attempt writes
    reported_step: int  # steps up to this one were reported by an earlier attempt
    parent_pid: int | None = None  # with whose end the trainer ends; None in a pod, which the cluster ends

    def to_json(self) -> str:
        """The file that `python -m training.trainer --job` reads."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> TrainerJob:
        """The reverse."""
        document: dict[str, Any] = json.loads(text)
        spec = document.pop("spec")
        training, validation = DataFile(**spec.pop("training")), spec.pop("validation")
        return cls(
            spec=TrainingSpec(**spec, training=training, validation=DataFile(**validation) if validation else None),
            **document,
        )
