"""Script: what a prompt asks the stub to do other than to fill its limit with words. Pure.

The last message may say `answer 5 words` (a natural end), `think 3 words` (reasoning that the engine separates) and
`call NAME` (of a function in `tools`; a forced choice does the same)."""

import re
from dataclasses import dataclass

_ANSWER = re.compile(r"\banswer (\d+) words\b")
_THINK = re.compile(r"\bthink (\d+) words\b")
_CALL = re.compile(r"\bcall (\w+)\b")


@dataclass(frozen=True, slots=True)
class Script:
    """Tokens are words here."""

    words: int | None = None  # None: until the limit
    thoughts: int = 0
    call: str | None = None


PLAIN = Script()


def script_of(prompt: str) -> Script:
    """What the last message says."""
    if (words := _ANSWER.search(prompt)) is None and "think" not in prompt and "call" not in prompt:
        return PLAIN
    thoughts, call = _THINK.search(prompt), _CALL.search(prompt)
    return Script(int(words[1]) if words else None, int(thoughts[1]) if thoughts else 0, call[1] if call else None)
