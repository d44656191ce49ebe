"""Which replicas answer, as this process sees it: from its own requests and from probes. Pure: no clock, no I/O.

A replica that fails several times in a row is ejected, each time for longer. When its time is over one request may try
it (half-open): a good answer brings it back, another failure ejects it again. A good probe brings back at once what
could not be reached, but says nothing about an engine that is up and fails its requests.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

UNREACHABLE_MOST = 2  # in a row; a refused connection says more than a failed request
FAILURES_MOST = 5  # in a row: one caller's poisonous request, retried by its SDK, must not look like a broken engine
EJECTION_SECONDS = 2.0  # the first time, then twice as long
EJECTION_SECONDS_MOST = 60.0

_NONE: frozenset[UUID] = frozenset()


@dataclass(slots=True)
class _Trouble:
    """Of a replica that does not answer well. Nothing is kept of one that does."""

    unreachable: int = 0  # in a row
    failures: int = 0  # in a row
    ejections: int = 0
    ejected_until: float | None = None
    is_being_tried: bool = False

    @property
    def is_ejected(self) -> bool:
        return self.ejected_until is not None


class Health:
    """What is known of every replica."""

    def __init__(self) -> None:
        self._troubles: dict[UUID, _Trouble] = {}

    def is_healthy(self, id: UUID) -> bool:
        """Whether it gets its share of requests."""
        return id not in self._troubles or not self._troubles[id].is_ejected

    def ejected(self) -> AbstractSet[UUID]:
        """Those that do not answer well, also when the time has come to try one again."""
        return {id for id, trouble in self._troubles.items() if trouble.is_ejected}

    def silent(self) -> AbstractSet[UUID]:
        """Those that cannot be reached: a probe brings them back, so nobody needs to try."""
        ejected = self._troubles.items()
        return {id for id, trouble in ejected if trouble.is_ejected and trouble.failures < FAILURES_MOST}

    def avoided(self, now: float) -> AbstractSet[UUID]:
        """Those that get no request now."""
        if not self._troubles:
            return _NONE
        return {
            id
            for id, trouble in self._troubles.items()
            if trouble.ejected_until is not None and (trouble.is_being_tried or now < trouble.ejected_until)
        }

    def due_at(self, id: UUID) -> float:
        """When it may be tried again. The smallest is the least bad."""
        trouble = self._troubles.get(id)
        return 0.0 if trouble is None or trouble.ejected_until is None else trouble.ejected_until

    def asked(self, id: UUID, now: float) -> None:
        """A request goes to it. If its time is over, this is the one that tries it."""
        trouble = self._troubles.get(id)
        if trouble is not None and trouble.ejected_until is not None and now >= trouble.ejected_until:
            trouble.is_being_tried = True

    def answered(self, id: UUID) -> bool:
        """It answers well. True if it had been ejected."""
        trouble = self._troubles.pop(id, None)
        return trouble is not None and trouble.is_ejected

    def unreachable(self, id: UUID, now: float) -> bool:
        """It cannot be reached, or goes away before it answers. True if that ejects it."""
        trouble = self._troubles.setdefault(id, _Trouble())
        trouble.unreachable += 1
        return self._failed(trouble, trouble.unreachable >= UNREACHABLE_MOST, now)

    def failed(self, id: UUID, now: float) -> bool:
        """It is there and fails a request. True if that ejects it."""
        trouble = self._troubles.setdefault(id, _Trouble())
        trouble.failures += 1
        return self._failed(trouble, trouble.failures >= FAILURES_MOST, now)

    def left_open(self, id: UUID) -> None:
        """A request ended that says nothing about it, such as one whose caller left: another may try it."""
        if id in self._troubles:
            self._troubles[id].is_being_tried = False

    def probed(self, id: UUID) -> bool:
        """A good probe. True if that brings it back."""
        trouble = self._troubles.get(id)
        if trouble is None:
            return False
        trouble.unreachable = 0
        if trouble.failures >= FAILURES_MOST:
            return False
        if not trouble.failures:
            del self._troubles[id]
        was_ejected, trouble.ejected_until = trouble.is_ejected, None
        return was_ejected

    def keep(self, ids: AbstractSet[UUID]) -> None:
        """Forget all others: they are no replicas any more."""
        self._troubles = {id: trouble for id, trouble in self._troubles.items() if id in ids}

    def _failed(self, trouble: _Trouble, is_too_often: bool, now: float) -> bool:
        trouble.is_being_tried = False
        was_ejected = trouble.is_ejected
        if not (is_too_often or was_ejected):
            return False
        if was_ejected and trouble.ejected_until is not None and now < trouble.ejected_until:
            return False  # a request from before, or a probe: one bad moment counts once
        seconds = min(EJECTION_SECONDS * 2**trouble.ejections, EJECTION_SECONDS_MOST)
        trouble.ejections += 1
        trouble.ejected_until = now + seconds
        return not was_ejected
