"""Fields of vLLM's own with which one caller could hurt others, or use what nobody could bill. Pure.

They are refused by name, since to leave them out would answer something else than was asked. What only steers an engine
is left out (`engine_request.STEERING`).
"""

from __future__ import annotations

from typing import Any

from serving.fleet.view import Variant
from studio.errors import InvalidRequest

BAD_WORDS_MOST = 128


def check_fields(payload: dict[str, Any]) -> None:
    """What no engine may be asked. InvalidRequest names the field."""
    if _is_set(payload, "use_beam_search"):
        # It asks the engine anew for each token of each beam, ahead of all priorities, and reports the best beams only.
        raise InvalidRequest(
            "`use_beam_search` is not offered, since what it uses cannot be metered. Leave it out; `n` gives several"
            " answers.",
            param="use_beam_search",
        )
    words = payload.get("bad_words")
    if isinstance(words, list) and len(words) > BAD_WORDS_MOST:
        # Each is cut into tokens before anything else of that engine goes on.
        raise InvalidRequest(f"`bad_words` takes at most {BAD_WORDS_MOST} entries.", param="bad_words")


def check_for_engine(payload: dict[str, Any], variant: Variant) -> None:
    """What the engine of this variant may not be asked. InvalidRequest names the field.

    vLLM 0.32 with adapters on CPUs dies of log probabilities of a prompt while it works on something else, too: a wrong
    shape in `add_lora_logits` (`lora/punica_wrapper/punica_cpu.py`). Every request that it has dies with it.
    """
    if not variant.engine_loads_adapters:
        return
    echoes = _is_set(payload, "echo")
    # In a chat an echo brings them by itself.
    brings_them = echoes and ("messages" in payload or payload.get("logprobs") is not None)
    if brings_them or payload.get("prompt_logprobs") is not None:
        raise InvalidRequest(
            f"The engine of `{variant.id}` loads fine-tuned models and cannot give log probabilities of a prompt. Leave"
            " out `prompt_logprobs` and `echo`, or use a model that cannot be fine-tuned.",
            param="echo" if brings_them else "prompt_logprobs",
        )


def _is_set(payload: dict[str, Any], name: str) -> bool:
    return payload.get(name) not in (None, False)
