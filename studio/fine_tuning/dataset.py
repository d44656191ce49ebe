"""Data sets: OpenAI's chat format, one conversation a line, judged before anything is trained on it.

Every finding names its line, so that a person can mend the file. It repeats nothing of the file but the start of a
field's name, escaped: what a tenant wrote belongs neither into our logs nor into a database that may refuse it. Tokens
are the trainer's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from studio.errors import InvalidRequest
from studio.fine_tuning import lines as jsonl
from studio.fine_tuning.lines import LineUnreadable

LEAST_EXAMPLES = 10
MOST_EXAMPLES = 100_000
FINDINGS_SHOWN = 20
_NAME_SHOWN = 40  # characters of a name in a finding
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `line` counts from 1."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class DatasetInvalid(InvalidRequest):
    """The file cannot be trained on."""

    default_code = "invalid_training_file"

    def __init__(self, findings: list[Finding], more: int = 0) -> None:
        listed = "; ".join(map(str, findings)) + (f"; and {more} more lines" if more else "")
        super().__init__(f"The data set has {len(findings) + more} invalid lines: {listed}.")
        self.findings = findings


class DatasetSizeWrong(InvalidRequest):
    """Too few examples to learn from, or more than one job takes."""

    default_code = "invalid_training_file"


def count_examples(lines: Iterable[bytes]) -> int:
    """How many examples a good file has. DatasetInvalid or DatasetSizeWrong for any other; blank lines are skipped."""
    examples = wrong = 0
    findings: list[Finding] = []
    for number, line in jsonl.filled(lines):
        reason = next(_faults(line), None)
        if reason is None:
            examples += 1
        elif len(findings) < FINDINGS_SHOWN:
            findings.append(Finding(number, reason))
        else:
            wrong += 1
    if findings:
        raise DatasetInvalid(findings, wrong)
    if examples < LEAST_EXAMPLES:
        raise DatasetSizeWrong(f"The data set has {examples} examples; at least {LEAST_EXAMPLES} are needed.")
    if examples > MOST_EXAMPLES:
        raise DatasetSizeWrong(f"The data set has {examples} examples; one job takes at most {MOST_EXAMPLES}.")
    return examples


def _faults(line: bytes) -> Iterator[str]:
    try:
        example = jsonl.parse(line)
    except LineUnreadable as unreadable:
        yield str(unreadable)
        return
    if not isinstance(example, dict) or not isinstance(example.get("messages"), list) or not example["messages"]:
        yield "an object with a non-empty list `messages` was expected"
        return
    if unknown := sorted(example.keys() - {"messages"}):
        yield f"the field {_shown(unknown[0])} is not supported"
    yield from _message_faults(example["messages"])


def _message_faults(messages: list[Any]) -> Iterator[str]:
    learned = False
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, dict):
            yield f"{where} is no object"
            return
        role, weight = message.get("role"), message.get("weight", 1)
        if role not in _ROLES:
            yield f"{where}: the role must be one of {', '.join(_ROLES)}"
        if not isinstance(message.get("content"), str) or not message["content"]:
            yield f"{where}: `content` must be a non-empty string"
        elif not jsonl.is_unicode(message["content"]):
            yield f"{where}: `content` has half of a surrogate pair, which is no character"
        if not isinstance(message.get("name", ""), str):
            yield f"{where}: `name` must be a string"
        if unknown := sorted(message.keys() - {"role", "content", "name", "weight"}):
            yield f"{where}: the field {_shown(unknown[0])} is not supported"
        if weight not in (0, 1) or isinstance(weight, bool) or ("weight" in message and role != "assistant"):
            yield f"{where}: `weight` is 0 or 1, on messages of the assistant"
        learned = learned or (role == "assistant" and weight == 1)
    if messages[-1].get("role") != "assistant":
        yield "the last message must be the assistant's"
    if not learned:
        yield "no message of the assistant is left to learn"


def _shown(name: str) -> str:
    return f"{name!a:.{_NAME_SHOWN}}"
