"""How many tokens a request will probably take, before anybody has counted them. Pure. The truth corrects it."""

from __future__ import annotations

from typing import Final

from serving.fleet.view import Variant
from serving.tokens.wire import EMBEDDINGS, Call

BYTES_PER_TOKEN: Final = 4  # of the body; English prose, as OpenAI estimates it
MEDIA_TOKENS: Final = 1_024  # an image or a sound, however many bytes it has
# Without a limit of the caller's own the longest answer would be the whole context, and a few requests would close the
# door for everybody else of the tenant.
ANSWER_TOKENS: Final = 1_024


def likely_tokens(call: Call, variant: Variant, body_bytes: int) -> int:
    """Prompt and all answers together."""
    media, media_bytes = _media(call)
    prompt = max(1, (body_bytes - media_bytes) // BYTES_PER_TOKEN) + media * MEDIA_TOKENS
    if call.endpoint is EMBEDDINGS:
        return prompt
    prompts = call.choices // call.choices_per_prompt
    prompt = min(prompt, variant.context_tokens * prompts)
    room = max(1, variant.context_tokens - prompt // prompts)
    answer = min(call.most_tokens(ANSWER_TOKENS) or 0, variant.max_output_tokens or room, room)
    return prompt + answer * call.choices


def _media(call: Call) -> tuple[int, int]:
    """How many parts are no text, and their bytes in the body."""
    count = size = 0
    for message in call.payload.get("messages") or ():
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") not in (None, "text"):
                count += 1
                of_type = part.get(part["type"]) if isinstance(part["type"], str) else None
                size += (
                    sum(len(value) for value in of_type.values() if isinstance(value, str))
                    if isinstance(of_type, dict)
                    else 0
                )
    return count, size
