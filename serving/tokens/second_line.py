"""The second line of a limit on an answer, for engines that write on where they should have stopped. Pure.

An engine is sent as its limit what the caller asked for and what a budget affords, and vLLM keeps to it. An engine of
somebody else's may not: then the stream is ended here, at the event whose running usage reaches the limit.
"""

from __future__ import annotations

from typing import Any

import orjson

from serving.budgets.book import Reservation
from serving.tokens.usage import TokenCounts


class SecondLine:
    """Holds each choice of one stream to the tokens that were set aside for it.

    A running usage that is absent cannot be watched: there only the bill is bounded (`Reservation.bounded`).
    """

    def __init__(self, limit: int, choices: int, is_budget: bool) -> None:
        self._limit = limit
        self._choices = choices
        self._is_budget = is_budget  # the money is what limits, and not the caller
        self._ended: set[int] = set()
        self._cut: set[int] = set()

    @classmethod
    def of(cls, reservation: Reservation | None) -> SecondLine | None:
        """None where no money bounds the tokens."""
        if reservation is None or reservation.max_tokens is None:
            return None
        return cls(reservation.max_tokens, reservation.choices, reservation.is_short)

    def is_near(self, usage: bytes) -> bool:
        """Whether the running usage of a stream's only choice says that its next event must be looked at."""
        return bool(orjson.loads(usage)["completion_tokens"] >= self._limit)

    def take(self, event: dict[str, Any]) -> bool:
        """Cut what goes beyond out of an event, and say where money ends a choice. False when nothing is left of it."""
        choices, usage = event.get("choices"), event.get("usage")
        if not choices or usage is None:
            return True
        event["choices"] = choices = [choice for choice in choices if choice["index"] not in self._cut]
        for choice in choices:
            is_reached = usage["completion_tokens"] >= self._limit
            if is_reached and choice.get("finish_reason") is None:
                choice["finish_reason"] = "length"
                self._cut.add(choice["index"])
            if choice.get("finish_reason") is not None:
                self._ended.add(choice["index"])
                if is_reached and self._is_budget and choice["finish_reason"] == "length":
                    choice["stop_reason"] = "budget"
        return bool(choices)

    @property
    def ends_the_stream(self) -> bool:
        """Whether every choice has ended, and not all of them by the engine: it is not waited for."""
        return bool(self._cut) and len(self._ended) == self._choices


def closing_event(last: dict[str, Any], counts: TokenCounts) -> dict[str, Any]:
    """The event that holds the usage of a stream that was ended here, after its `last`."""
    usage = {
        "prompt_tokens": counts.prompt,
        "total_tokens": counts.prompt + counts.completion,
        "completion_tokens": counts.completion,
    }
    common = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
    return common | {"choices": [], "usage": usage}
