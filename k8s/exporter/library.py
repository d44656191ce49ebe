"""The cards as the vendor's library sees them: loaded, initialised, and initialised again when something is wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path

import structlog

from k8s.exporter import metrics, probes
from k8s.exporter.cards import Card, Seen, Values
from k8s.exporter.mxsml import CallFailed, LibraryMissing, Mxsml
from k8s.exporter.probes import CallErrors

log = structlog.get_logger()

_LONGEST_WAIT_SECONDS = 60.0


class LibraryCards:
    """One library at one path. `read` never raises: a driver that is away is a state of the world."""

    def __init__(self, path: Path, first_wait_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._first_wait = self._wait = first_wait_seconds
        self._not_before = 0.0
        self._library: Mxsml | None = None
        self._initialised = self._doubtful = False
        self._trouble: str | None = None
        self._versions: dict[str, tuple[str, str]] = {}
        self._levels: dict[frozenset[str], int] = {}
        self._listed: list[Card] = []
        self.errors: CallErrors = Counter()

    def read(self, known: Collection[str]) -> Seen | None:
        """One pass over the cards; None while the library cannot be used. `known`: the uuids that should be there."""
        try:
            library = self._ready()
            if library is None:
                return None
            count = library.device_count()
            seen = self._all_cards(library, count)
        except (LibraryMissing, CallFailed) as error:
            self._failed(error)
            return None
        if len(seen.values) < count or not set(known) <= {card.uuid for card in seen.values}:
            self._doubt()
        else:
            self._wait = self._first_wait
        return seen

    def topology(self) -> Mapping[frozenset[str], int]:
        """The vendor's level of each pair of cards of the last pass, by uuids; asked once for an initialisation."""
        if self._library is not None and not self._levels:
            for card, other in combinations(self._listed, 2):
                with suppress(CallFailed):
                    self._levels[frozenset((card.uuid, other.uuid))] = self._library.topology(card.index, other.index)
        return dict(self._levels)

    def _ready(self) -> Mxsml | None:
        """The library, initialised. None while it is too early for another try."""
        if self._initialised and not self._doubtful:
            return self._library
        if self._monotonic() < self._not_before:
            return self._library if self._initialised else None
        if self._library is None:
            self._library = Mxsml(self._path)
        self._library.initialise(again=self._initialised)
        self._initialised, self._doubtful = True, False
        self._levels.clear()
        self._versions.clear()  # a driver that came back may be another one
        if self._trouble is not None:
            log.info("library_ready", path=str(self._path))
        self._trouble = None
        return self._library

    def _all_cards(self, library: Mxsml, count: int) -> Seen:
        seen: dict[Card, Values] = {}
        lost: dict[str, str] = {}
        for device in range(count):
            card: Card | None = None
            try:
                card = probes.identify(library, device)
                values = probes.read(library, device, self.errors)
                values[metrics.INFO, (card.bdf, *self._versions_of(library, card))] = 1
                seen[card] = values
            except CallFailed as error:
                # A card that does not even say who it is shows as one that is not listed.
                if card is not None:
                    lost[card.uuid] = f"result_{error.result}"
        self._listed = list(seen)
        return Seen("library", seen, lost)

    def _versions_of(self, library: Mxsml, card: Card) -> tuple[str, str]:
        if card.uuid not in self._versions:
            self._versions[card.uuid] = probes.versions(library, card)
        return self._versions[card.uuid]

    def _doubt(self) -> None:
        """Initialise again, but less and less often while that does not help: it holds up the other cards."""
        if not self._doubtful:
            self._doubtful = True
            self._not_before = self._monotonic() + self._wait
            self._wait = min(self._wait * 2, _LONGEST_WAIT_SECONDS)

    def _failed(self, error: LibraryMissing | CallFailed) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("library_unusable", path=str(self._path), error=self._trouble)
        if isinstance(error, CallFailed):
            self.errors[error.function, error.result] += 1
        self._initialised = self._doubtful = False
        self._not_before = self._monotonic() + self._wait
        self._wait = min(self._wait * 2, _LONGEST_WAIT_SECONDS)
