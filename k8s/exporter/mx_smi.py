"""The vendor's command line as a fallback: `mx-smi -j`, of which only what public code shows is read.

That is: an object for each card by its bus address, with `device_id`, `board_power.power.Way*` (W),
`clocks.XCORE.XCORE_CLK` (MHz) and `unavailable_reason`. Memory, temperature and usage are in there too, under names
that we have not seen: they are absent until somebody with a card adds them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from k8s.exporter import metrics
from k8s.exporter.cards import Card, Seen, Values

log = structlog.get_logger()

_TIMEOUT_SECONDS = 20.0


class MxSmiCards:
    """`read` never raises."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._trouble: str | None = None

    def read(self, known: Iterable[Card]) -> Seen | None:
        """The cards as the command shows them, under the identities that the library once gave; None when it fails."""
        try:
            ended = subprocess.run(
                [self._command, "-j"], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True
            )
            seen = parse(ended.stdout, known)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("mx_smi_unusable", command=self._command, error=self._trouble)
            return None
        self._trouble = None
        return seen


def parse(output: str, known: Iterable[Card]) -> Seen:
    """What `mx-smi -j` printed. ValueError when there is no JSON object in it."""
    document = json.loads(output[max(output.find("{"), 0) :])
    if not isinstance(document, dict):
        raise ValueError("mx-smi -j printed something else than a JSON object")
    by_bdf = {card.bdf.lower(): card for card in known}
    cards = ((bdf, entry) for bdf, entry in document.items() if isinstance(entry, dict) and "device_id" in entry)
    return Seen("mx_smi", {_card(bdf, entry, by_bdf): _values(bdf, entry) for bdf, entry in cards})


def _card(bdf: str, entry: Mapping[str, Any], by_bdf: Mapping[str, Card]) -> Card:
    index = int(entry["device_id"])
    if (seen := by_bdf.get(bdf.lower())) is not None:
        return Card(seen.uuid, index, seen.model, seen.bdf)
    return Card(str(entry.get("uuid") or bdf), index, str(entry.get("device_name") or ""), bdf)


def _values(bdf: str, entry: Mapping[str, Any]) -> Values:
    values: Values = {(metrics.INFO, (bdf, "", "")): 1}
    ways = _at(entry, "board_power", "power")
    if isinstance(ways, dict):
        watts = [power for power in (_number(way) for way in ways.values()) if power is not None]
        if watts:
            values[metrics.POWER, ()] = sum(watts)
    clock = _number(_at(entry, "clocks", "XCORE", "XCORE_CLK"))
    if clock is not None:
        values[metrics.CLOCK, ("xcore",)] = clock * 1_000_000
    if entry.get("unavailable_reason"):
        values[metrics.UNAVAILABLE, ("", str(entry["unavailable_reason"]))] = 1
    return values


def _at(entry: Any, *keys: str) -> Any:
    for key in keys:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry


def _number(value: Any) -> float | None:
    """Numbers come as numbers or as text, with or without a unit."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(str(value).split()[0].removesuffix("W").removesuffix("MHz"))
    except (ValueError, IndexError):
        return None
