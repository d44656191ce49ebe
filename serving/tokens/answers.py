"""Answers of engines, as the caller may see them: its own name of the model, our id, nothing of the engine. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol, Self

import msgspec
import orjson

from serving import envelope
from serving.fleet.view import Replica, Variant
from serving.routing import Target
from serving.tokens.engine_refusals import read_refusal
from serving.tokens.wire import Call
from studio.errors import ContextLengthExceeded, InvalidRequest, PayloadTooLarge, ServiceUnavailable, StudioError

DONE = b"data: [DONE]\n\n"
EVENT_END = b"\n\n"
_INTERNAL = ("kv_transfer_params", "ec_transfer_params", "metrics", "prompt_text")
# vLLM's own additions, which it fills only when asked to: an empty one says nothing to a client of OpenAI's.
_SHOWN_WHEN_SET = ("prompt_logprobs", "prompt_token_ids", "token_ids", "stop_reason", "routed_experts")


class Dialect(Protocol):
    """How one answer is told to its caller: an engine's objects in, bytes on the wire out.

    One object for each answer: `whole`, or `event` for each of the stream and then `end` or `failure`.
    """

    def whole(self, answer: dict[str, Any]) -> bytes:
        """An answer that does not stream. May change `answer`."""

    def event(self, answer: dict[str, Any]) -> bytes:
        """One event of a stream, or nothing if it is none of the client's business. May change `answer`."""

    def end(self) -> bytes:
        """What follows the last event of a good stream."""

    def failure(self, error: StudioError) -> bytes:
        """What ends a stream after an error; its first byte has left, so this is no status any more."""


class CompletionsDialect(msgspec.Struct, frozen=True):
    """OpenAI's chat completions, completions and embeddings, which are what engines speak."""

    answer_id: str
    model: str
    include_usage: bool
    continuous_usage: bool

    @classmethod
    def of(cls, call: Call, request_hex: str) -> Self:
        """For the answer to `call`."""
        answer_id = call.endpoint.id_prefix + request_hex
        return cls(answer_id, call.shown_model, call.include_usage, call.continuous_usage)

    def whole(self, answer: dict[str, Any]) -> bytes:
        self._rewrite(answer)
        return orjson.dumps(answer)

    def event(self, answer: dict[str, Any]) -> bytes:
        if not self.include_usage:
            if not answer["choices"]:
                return b""
            answer.pop("usage", None)
        elif answer["choices"] and not self.continuous_usage:
            answer["usage"] = None
        self._rewrite(answer)
        return b"data: " + orjson.dumps(answer) + b"\n\n"

    def end(self) -> bytes:
        return DONE

    def failure(self, error: StudioError) -> bytes:
        """SDKs raise on the key `error`, whatever else the event is."""
        return b"data: " + envelope.body_of(error) + b"\n\n" + DONE

    def _rewrite(self, answer: dict[str, Any]) -> None:
        answer["id"] = self.answer_id
        answer["model"] = self.model
        _strip(answer)
        for choice in answer.get("choices", ()):
            _strip(choice)
            if choice.get("logprobs"):
                sort_top_logprobs(choice["logprobs"])


def sort_top_logprobs(logprobs: dict[str, Any]) -> None:
    """The likeliest token first, as OpenAI has it. vLLM puts the one that was drawn first."""
    for token in logprobs.get("content") or ():
        token["top_logprobs"] = sorted(token.get("top_logprobs") or (), key=lambda one: -one["logprob"])


def mark_budget_stop(choices: list[dict[str, Any]]) -> None:
    """Say that money ended an answer. `finish_reason` stays `length`: strict clients know OpenAI's five values only."""
    for choice in choices:
        if choice.get("finish_reason") == "length":
            choice["stop_reason"] = "budget"


class WholeEvents:
    """The events of a stream of bytes, wherever the network cut it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Those that are complete with `data`, one after the other."""
        data = self._rest + data
        end = data.rfind(EVENT_END) + len(EVENT_END)
        if end < len(EVENT_END):
            end = 0
        self._rest = data[end:]
        return data[:end]

    @property
    def is_between(self) -> bool:
        """Whether no event has begun and not ended."""
        return not self._rest


def engine_error(status: int, body: bytes, target: Target, replica: Replica, payload: Mapping[str, Any]) -> StudioError:
    """What an engine's refusal of `payload` means to the caller. Engines write numbers where clients compare words."""
    message, param = read_refusal(body, payload)
    name = re.escape(target.engine_name(replica))
    message = re.sub(f"`{name}`|'{name}'|\"{name}\"", lambda _: f"`{target.name}`", message)
    if status in (400, 422):
        if "maximum context length" in message or "max_total_tokens" in message:
            return _context_length_exceeded(message, target.variant)
        return InvalidRequest(message, param=param)
    if status == 413:
        return PayloadTooLarge(message, param=param)
    return ServiceUnavailable(
        f"The engine behind `{target.name}` could not take the request.", retry_after=timedelta(seconds=2)
    )


def _context_length_exceeded(message: str, variant: Variant) -> ContextLengthExceeded:
    # litellm looks for the sentence, LangChain for the code within the message, SDK users at the code.
    sentence = f"This model's maximum context length is {variant.context_tokens} tokens."
    if not message.startswith("This model's maximum context length is"):
        message = f"{sentence} However, {message[:1].lower()}{message[1:]}"
    return ContextLengthExceeded(f"{message} (context_length_exceeded)")


def _strip(part: dict[str, Any]) -> None:
    for name in _INTERNAL:
        part.pop(name, None)
    for name in _SHOWN_WHEN_SET:
        if part.get(name, "") is None:
            del part[name]
