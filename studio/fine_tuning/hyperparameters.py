"""Hyperparameters: what was asked for, and what "auto" means for a data set of a given size. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RANK = 8  # engines on CPUs slow down with the largest rank they allow (--max-lora-rank), not with the adapter's own
CONTEXT_TOKENS = 1024  # of one example
MOST_EPOCHS = 50
_LARGE_WEIGHTS_BYTES = 2_000_000_000  # one billion parameters in bfloat16
_LEARNING_RATE, _LEARNING_RATE_LARGE = 1e-3, 2e-4


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Resolved: nothing is "auto" any more."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float

    @classmethod
    def resolve(cls, asked: Mapping[str, Any], examples: int) -> Hyperparameters:
        """Small sets are read more often; batches are about 0.2 % of the set."""

        def value(name: str, auto: float) -> float:
            given = asked.get(name, "auto")
            return auto if given == "auto" else given

        return cls(
            n_epochs=int(value("n_epochs", min(max(round(300 / examples), 1), 25))),
            batch_size=int(value("batch_size", min(max(round(examples / 500), 1), 256))),
            learning_rate_multiplier=float(value("learning_rate_multiplier", 1.0)),
        )

    def learning_rate(self, weights_bytes: int) -> float:
        """Small models take larger steps."""
        base = _LEARNING_RATE if weights_bytes < _LARGE_WEIGHTS_BYTES else _LEARNING_RATE_LARGE
        return base * self.learning_rate_multiplier
