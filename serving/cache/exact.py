"""Which requests are the same, and which answers may be given again. Pure.

The same is only what an engine would be told in the same words: the fields of the body but for those that change no
answer, the weights and how they are run, the adapter, and the salt by which a caller keeps its own users apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import orjson

from serving.cache.wish import Wish
from serving.fleet.view import Fleet, Price
from serving.routing import Target
from serving.tokens.engine_request import STEERING
from serving.tokens.wire import CHAT, COMPLETIONS, EMBEDDINGS, Call
from studio.errors import InvalidRequest

# What says how a request is handled, accounted or told, and nothing about its answer.
_CHANGES_NO_ANSWER: Final = frozenset(
    {
        *STEERING,
        *("model", "user", "metadata", "store", "service_tier", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "stream", "stream_options"),
    }
)
_OF_ENCODING: Final = frozenset({"input", "encoding_format"})
_OTHER_ENCODINGS: Final = frozenset({"embed_dtype", "endianness"})  # vLLM's own, which no vector is kept in
_WHOLE: Final = frozenset({"stop", "length", "tool_calls"})


def is_sold(prices: Collection[Price]) -> bool:
    """Whether cached answers of a variant have a price wherever the variant has one."""
    currencies = {price.currency for price in prices}
    return bool(currencies) and currencies == {price.currency for price in prices if price.unit == "reused"}


def why_not(call: Call, wish: Wish) -> str | None:
    """Why an answer neither comes from the cache nor goes there, in a word for the caller; None: it may."""
    if call.endpoint not in (CHAT, COMPLETIONS, EMBEDDINGS):
        return "endpoint"
    if not wish.stores:
        return "no-store"
    if call.stream:
        return "stream"
    if call.endpoint is EMBEDDINGS:
        return "encoding" if _OTHER_ENCODINGS & call.payload.keys() else None
    if call.has_media:
        return "media"  # what an address leads to may change, and so would the answer
    is_sampled = call.payload.get("temperature") != 0 and call.payload.get("seed") is None
    return "sampled" if is_sampled and not wish.sampled_too else None


def same_answer(call: Call, target: Target, fleet: Fleet) -> bytes:
    """Equal for two requests if, and only if, one answer serves both."""
    return _canonical(call, target, fleet, _CHANGES_NO_ANSWER)


def same_vectors(call: Call, target: Target, fleet: Fleet) -> bytes:
    """The same for embeddings, whatever their inputs and the way that vectors are written."""
    return _canonical(call, target, fleet, _CHANGES_NO_ANSWER | _OF_ENCODING)


def is_whole(content: dict[str, Any]) -> bool:
    """Whether every choice has come to an end of its own, or to the caller's or the model's limit."""
    choices = content.get("choices")
    return bool(choices) and all(choice.get("finish_reason") in _WHOLE for choice in choices or ())


def _canonical(call: Call, target: Target, fleet: Fleet, without: Collection[str]) -> bytes:
    variant = target.variant
    # An absent field is a null one. Within a field the order stays: that of a tool's properties is part of the prompt.
    fields = sorted((name, value) for name, value in call.payload.items() if name not in without and value is not None)
    what = [
        *(call.endpoint.engine_path, variant.id, variant.runs, variant.max_output_tokens, call.client_salt),
        "" if call.cache_owner is None else call.cache_owner.hex,
        "" if target.adapter is None else target.adapter.id.hex,
        # Nobody has told us which weights an attached engine has, so another one is another model.
        sorted(_attached(target, fleet)),
        fields,
    ]
    try:
        return orjson.dumps(what)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("The body is nested too deeply.") from error  # it reads deeper than it writes


def _attached(target: Target, fleet: Fleet) -> Iterable[str]:
    return (replica.id.hex for replica in fleet.replicas_for(target.variant) if replica.is_attached)
