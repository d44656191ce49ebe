"""What an engine says that is being shut down. vLLM then still answers 200: a request that it no longer takes, and one
that it was working on, ends with `finish_reason: "abort"`, which no client of OpenAI's knows. Pure.
"""

from __future__ import annotations

import re
from typing import Any

# In JSON a text cannot hold a bare quotation mark, so this is never part of an answer's words.
_ABORT = re.compile(rb'"finish_reason":\s*"abort"')
_EVENT_END = b"\n\n"


def is_aborted(answer: bytes) -> bool:
    """Whether an answer that nobody has seen yet, or the part of a stream that has arrived, was aborted."""
    return b'"abort"' in answer and _ABORT.search(answer) is not None  # the first is much faster in a large answer


def is_aborted_event(event: dict[str, Any]) -> bool:
    """The same of one event of a stream."""
    return any(choice.get("finish_reason") == "abort" for choice in event.get("choices") or ())


def only_opens(events: bytes) -> bool:
    """Whether a stream has been opened and no more: no token, and no end. Only what follows tells whether the engine
    has begun. Engines without running usage do not say so; what they send counts as begun."""
    if not events.endswith(_EVENT_END):
        return False
    last = events[events.rfind(_EVENT_END, 0, -len(_EVENT_END)) + 1 :]
    return b'"completion_tokens":0' in last and b'"finish_reason":null' in last
