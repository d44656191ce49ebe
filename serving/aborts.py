"""Answers that an engine gave up before their first token, as one does whose drain is over. Pure.

vLLM calls that an answer: status 200, `finish_reason` `abort`. The caller has got nothing and pays nothing, so another
replica may take the request. What was aborted after its first token is the caller's, and stays as it is.
"""

from __future__ import annotations

import orjson

_ABORT = b'"abort"'  # inside a text its quotes would be escaped


def is_empty_abort(first: bytes) -> bool:
    """Of a whole answer, or of the first bytes of a stream."""
    if _ABORT not in first:
        return False
    ended = False
    for line in first.splitlines():
        try:
            said = orjson.loads(line.removeprefix(b"data:"))
        except orjson.JSONDecodeError:
            continue  # between events, or the end of what has arrived
        if not isinstance(said, dict) or not said.get("choices"):
            continue
        if (said.get("usage") or {}).get("completion_tokens") != 0:
            return False
        ended = all(choice.get("finish_reason") == "abort" for choice in said["choices"])
    return ended
