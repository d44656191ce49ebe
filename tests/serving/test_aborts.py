"""What an engine gave up before its first token, in a whole answer and in the first bytes of a stream."""

from __future__ import annotations

import json

import pytest

from serving.aborts import is_empty_abort


def event(finish: str | None, tokens: int, **delta: str) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    said = {"choices": [choice], "usage": {"completion_tokens": tokens}}
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


ROLE, ABORTED = event(None, 0, role="assistant"), event("abort", 0)
QUOTED = event("stop", 2, content='{"finish_reason": "abort"}')


@pytest.mark.parametrize(
    ("first", "is_empty"),
    [
        (ABORTED.removeprefix(b"data: "), True),  # a whole answer
        (ROLE + ABORTED, True),
        (ABORTED + b"data: [DONE]\n\n", True),
        (ROLE, False),
        (ROLE + ABORTED[:-20], False),  # the rest has not arrived
        (event("abort", 3), False),  # that is the caller's
        (event(None, 1, content="w") + event("abort", 1), False),
        (QUOTED, False),
        (b"", False),
    ],
)
def test_only_an_abort_without_a_token_may_be_asked_of_another(first: bytes, *, is_empty: bool) -> None:
    assert is_empty_abort(first) is is_empty
