"""What a source says of the cards of this node at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from k8s.exporter.metrics import Metric

SourceName = Literal["library", "mx_smi", "none"]

# By metric and its own labels. Counters are as the hardware has them.
Values = dict[tuple[Metric, tuple[str, ...]], float]


@dataclass(frozen=True, slots=True)
class Card:
    """Who a card is. The number may change when the driver is loaded again; `uuid` does not."""

    uuid: str
    index: int
    model: str
    bdf: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One pass over the cards: those that answered with their values, and why others did not."""

    source: SourceName
    values: Mapping[Card, Values] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)  # by uuid, the cause
    cause: str = "not_listed"  # of cards that are in neither
