"""What a request weighs, and how its prompt begins: what the choice of a replica needs to know of it. Pure.

An engine keeps the prefixes of prompts by tenant (their salt) and model. A conversation is its system messages and its
first user message: all its turns begin with these, and other conversations do not. Only the first bytes of each count,
so that questions about one long document go where the document is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from serving.balance import Work
from serving.routing import Target
from serving.tokens.wire import EMBEDDINGS, Call

TYPICAL_ANSWER_TOKENS = 512  # most callers set no limit, or one far above what they will use
BEGINNING_CHARACTERS = 2048  # of one message
BEGINNING_TOKENS = 512  # of a prompt that comes as token ids


def work_of(call: Call, target: Target, salt: str) -> Work:
    """For `Balancer.choose`."""
    if call.endpoint is EMBEDDINGS:
        return Work()  # nothing is produced, and nothing of it is asked again
    most = call.most_tokens(target.variant.max_output_tokens or target.variant.context_tokens) or 0
    return Work(min(most, TYPICAL_ANSWER_TOKENS) * call.choices, partial(beginning, call, target, salt))


def beginning(call: Call, target: Target, salt: str) -> bytes | None:
    """What requests have in common that find each other's prompts in an engine's cache."""
    if messages := call.payload.get("messages"):
        parts = _conversation(messages)
    elif prompt := call.payload.get("prompt"):
        parts = _prompt(prompt)
    else:
        return None
    return "\0".join((salt, target.name, *parts)).encode(errors="replace")


def _conversation(messages: Iterable[dict[str, Any]]) -> Iterable[str]:
    for message in messages:
        yield message["role"]
        yield _text(message.get("content"))
        if message["role"] == "user":
            return


def _prompt(prompt: Any) -> Iterable[str]:
    first = prompt[0] if isinstance(prompt, list) and not isinstance(prompt[0], int) else prompt
    yield _text(first) if isinstance(first, str) else str(first[:BEGINNING_TOKENS])


def _text(content: Any) -> str:
    """A text, or parts whose shape the engine judges. An image is known by its address, or by its own first bytes."""
    if isinstance(content, str):
        return content[:BEGINNING_CHARACTERS]
    if isinstance(content, dict):
        content = list(content.values())
    return "\0".join(map(_text, content)) if isinstance(content, list) else ""
