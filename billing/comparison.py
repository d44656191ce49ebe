"""What a comparison of two independent counts comes to. Who compares what: `reconcile.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was expected, what was observed, and whether that is in order. `expected` and `observed` are tokens, for
    totals cents, for GPU seconds seconds."""

    kind: str
    subject: str
    expected: int
    observed: int
    agrees: bool
    details: Mapping[str, Any]
