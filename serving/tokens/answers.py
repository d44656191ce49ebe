"""Answers of engines, as the caller may see them: its own name of the model, our id, nothing of the engine. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from serving.fleet.view import Replica, Variant
from serving.routing import Target
from serving.tokens.wire import Call
from studio.errors import ContextLengthExceeded, InvalidRequest, PayloadTooLarge, ServiceUnavailable, StudioError

DONE = b"data: [DONE]\n\n"
_INTERNAL = ("kv_transfer_params", "ec_transfer_params", "metrics", "prompt_text")
# vLLM's own additions, which it fills only when asked to: an empty one says nothing to a client of OpenAI's.
_SHOWN_WHEN_SET = ("prompt_logprobs", "prompt_token_ids", "token_ids", "stop_reason", "routed_experts")


@dataclass(frozen=True, slots=True)
class Form:
    """What the rewriting needs to know of the request."""

    answer_id: str
    model: str
    include_usage: bool
    continuous_usage: bool

    @classmethod
    def of(cls, call: Call, request_hex: str) -> Form:
        """The form of the answer to `call`."""
        answer_id = call.endpoint.id_prefix + request_hex
        return cls(answer_id, call.model, call.include_usage, call.continuous_usage)


def whole(answer: dict[str, Any], form: Form) -> bytes:
    """An answer that does not stream. Changes `answer`."""
    _rewrite(answer, form)
    return orjson.dumps(answer)


def event(answer: dict[str, Any], form: Form) -> bytes:
    """One event of a stream, or nothing if it is none of the client's business. Changes `answer`."""
    if not form.include_usage:
        if not answer["choices"]:
            return b""
        answer.pop("usage", None)
    elif answer["choices"] and not form.continuous_usage:
        answer["usage"] = None
    _rewrite(answer, form)
    return b"data: " + orjson.dumps(answer) + b"\n\n"


def error_event(body: bytes) -> bytes:
    """After the first byte an error is an event: SDKs raise on its key `error`."""
    return b"data: " + body + b"\n\n"


class EventSplitter:
    """Cuts a stream of bytes into the payloads of its events, wherever the network cut it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that are complete with `data`."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for one in events:
            if one.startswith(b"data: "):
                yield one[6:]


def engine_error(status: int, body: bytes, target: Target, replica: Replica) -> StudioError:
    """What an engine's refusal means to the caller. Engines write numbers where clients compare words."""
    message, param = _read_error(body)
    message = message.replace(f"`{target.engine_name(replica)}`", f"`{target.name}`")
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


def _read_error(body: bytes) -> tuple[str, str | None]:
    try:
        error = orjson.loads(body)["error"]
        return str(error["message"]), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "The engine refused the request without giving a reason.", None


def _rewrite(answer: dict[str, Any], form: Form) -> None:
    answer["id"] = form.answer_id
    answer["model"] = form.model
    _strip(answer)
    for choice in answer.get("choices", ()):
        _strip(choice)


def _strip(part: dict[str, Any]) -> None:
    for name in _INTERNAL:
        part.pop(name, None)
    for name in _SHOWN_WHEN_SET:
        if part.get(name, "") is None:
            del part[name]
