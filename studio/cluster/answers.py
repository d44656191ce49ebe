"""Whether engines whose pods are ready answer a real request: the first of a morning, and one every minute after it.

A pod is ready when `/health` says so, which an engine does before it has made its first token, and goes on doing when
it hangs. So each is asked for one token: before it counts as started, and then now and then. The first one pays for
what an engine does only once, before a caller would; one that answers nothing is told. Asked is the address that
requests go to; engines that want a key are not asked, since only the gateway holds it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import httpx2
from sqlalchemy import select
from sqlalchemy.orm import Session

from studio import clock
from studio.db.catalog import Model, ModelVariant
from studio.db.fleet import Replica

PATIENCE_SECONDS = 60.0  # the first token on new cards takes long, and one of a full engine waits for a place
EVERY = timedelta(seconds=60)
_MISSES = 3  # in a row; what is refused at once may be an address that is not known everywhere yet
_AHEAD_OF_ALL = -1  # `priority`: an engine that is full is busy, not silent

Word = Literal["answers", "waiting", "silent"]


@dataclass(frozen=True, slots=True)
class Door:
    """Where an engine is asked, for its smallest real request."""

    url: str
    path: str
    engine_model: str

    def body(self) -> dict[str, Any]:
        """As its kind of model takes it."""
        if self.path == "/v1/embeddings":
            return {"model": self.engine_model, "input": "warm"}
        said: dict[str, Any] = {"model": self.engine_model, "max_tokens": 1, "priority": _AHEAD_OF_ALL}
        if self.path == "/v1/completions":
            return said | {"prompt": "warm"}
        return said | {"messages": [{"role": "user", "content": "warm"}]}


_PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions", "embedding": "/v1/embeddings"}


def doors(session: Session) -> dict[str, tuple[Door, ...]]:
    """Of the engines that requests go to, by variant."""
    query = (
        select(Replica.variant_id, Replica.url, Replica.engine_model, Model.task)
        .join(ModelVariant, ModelVariant.id == Replica.variant_id)
        .join(Model, Model.id == ModelVariant.model_id)
        .where(Replica.kind == "attached", Replica.state == "ready", Replica.needs_key.is_(False))
        .order_by(Replica.created_at)
    )
    found: defaultdict[str, list[Door]] = defaultdict(list)
    for variant, url, engine_model, task in session.execute(query).tuples():
        found[variant].append(Door(url, _PATHS[task], engine_model))
    return {variant: tuple(all_of_it) for variant, all_of_it in found.items()}


@dataclass(slots=True)
class _Known:
    """Of one door."""

    asked_at: datetime
    is_asked: bool = True  # and has not answered yet
    answered_at: datetime | None = None  # when the request was made that it answered last
    misses: int = 0


class Answers:
    """What has been heard. It asks in the background, so no tick waits for an engine. Knows nothing when it is new."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS, every: timedelta = EVERY) -> None:
        self._patience_seconds, self._every = patience_seconds, every
        self._known: dict[Door, _Known] = {}

    def of(self, doors: tuple[Door, ...], since: datetime | None) -> Word:
        """Of one variant, and ask again where it is time. `waiting`: no answer yet to what was asked after `since`."""
        now = clock.now()
        words = {self._of(door, since, now) for door in doors}
        if "silent" in words:
            return "silent"
        return "waiting" if "waiting" in words else "answers"

    def _of(self, door: Door, since: datetime | None, now: datetime) -> Word:
        known = self._known.get(door)
        is_proved = (
            known is not None and known.answered_at is not None and (since is None or known.answered_at >= since)
        )
        if known is None:
            known = self._known[door] = _Known(now)
            self._ask(door, known)
        elif not known.is_asked and (not is_proved or known.misses or now - known.asked_at >= self._every):
            known.asked_at, known.is_asked = now, True
            self._ask(door, known)
        if known.misses >= _MISSES:
            return "silent"
        return "answers" if is_proved else "waiting"

    def _ask(self, door: Door, known: _Known) -> None:
        threading.Thread(target=self._hear, args=(door, known), daemon=True).start()

    def _hear(self, door: Door, known: _Known) -> None:
        if _answers(door, self._patience_seconds):
            known.answered_at, known.misses = known.asked_at, 0
        else:
            known.misses += 1
        known.is_asked = False


def _answers(door: Door, patience_seconds: float) -> bool:
    """Whether it did. A refusal is an answer, too: whoever attached it has to look at that, and it does not hang."""
    try:
        timeout = httpx2.Timeout(patience_seconds)
        with httpx2.Client(timeout=timeout, trust_env=False) as client:
            return client.post(door.url + door.path, json=door.body()).status_code < 500
    except httpx2.HTTPError:
        return False


@dataclass(frozen=True, slots=True)
class Asker:
    """What a tick of the driver asks: one variant after another."""

    answers: Answers
    doors: Mapping[str, tuple[Door, ...]]

    def __call__(self, variant: str, since: datetime | None) -> Word:
        """A variant that nobody has attached has nothing to be asked at."""
        return self.answers.of(self.doors.get(variant, ()), since)
