"""Answers of the Messages API, told from a chat completion: one block after the other, each opened and closed. Pure."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import orjson

from serving.messages import envelope
from serving.tokens.wire import Call
from studio.errors import StudioError

# No signature of ours would mean anything to Anthropic, and none of theirs is checked here.
_NO_SIGNATURE = ""
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'

BlockKind = Literal["text", "thinking", "tool_use"]


class MessagesDialect:
    """One answer. Blocks are numbered as they come; a chat's text, reasoning and tool calls never overlap."""

    def __init__(self, call: Call, id: UUID) -> None:
        self._id = id
        self._message_id = call.endpoint.id_prefix + id.hex
        self._model = call.model
        self._usage: dict[str, Any] = {}
        self._started = False
        self._blocks = 0
        self._open: tuple[BlockKind, int] | None = None  # and the tool call's own index
        self._has_tool_use = False
        self._finish: dict[str, Any] = {}

    def whole(self, answer: dict[str, Any]) -> bytes:
        choice = answer["choices"][0]
        message = choice["message"]
        content: list[dict[str, Any]] = []
        if thought := message.get("reasoning") or message.get("reasoning_content"):
            content.append({"type": "thinking", "thinking": thought, "signature": _NO_SIGNATURE})
        if message.get("content"):
            content.append({"type": "text", "text": message["content"]})
        for call in message.get("tool_calls") or ():
            function = call["function"]
            about = {"type": "tool_use", "id": call["id"], "name": function["name"]}
            content.append(about | {"input": _arguments(function["arguments"])})
            self._has_tool_use = True
        return orjson.dumps(self._message(content, answer["usage"]) | self._stop(choice))

    def event(self, answer: dict[str, Any]) -> bytes:
        events: list[bytes] = []
        if (usage := answer.get("usage")) is not None:
            self._usage = usage
        if not self._started:
            self._started = True
            message = self._message([], self._usage) | {"stop_reason": None, "stop_sequence": None}
            events += [_event({"type": "message_start", "message": message}), _PING]
        for choice in answer["choices"]:
            self._tell(choice["delta"], events)
            if choice.get("finish_reason") is not None:
                self._finish = choice
        return b"".join(events)

    def end(self) -> bytes:
        events: list[bytes] = []
        self._close(events)
        delta = {"type": "message_delta", "delta": self._stop(self._finish), "usage": _usage(self._usage)}
        events += [_event(delta), _event({"type": "message_stop"})]
        return b"".join(events)

    def failure(self, error: StudioError) -> bytes:
        return _event(envelope.object_of(error, self._id))

    def _tell(self, delta: dict[str, Any], events: list[bytes]) -> None:
        if thought := delta.get("reasoning") or delta.get("reasoning_content"):
            self._begin("thinking", {"thinking": "", "signature": _NO_SIGNATURE}, 0, events)
            events.append(self._delta({"type": "thinking_delta", "thinking": thought}))
        if text := delta.get("content"):
            self._begin("text", {"text": ""}, 0, events)
            events.append(self._delta({"type": "text_delta", "text": text}))
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            begun: dict[str, Any] = {"id": call.get("id") or "", "name": function.get("name") or "", "input": {}}
            self._begin("tool_use", begun, call["index"], events)
            if arguments := function.get("arguments"):
                events.append(self._delta({"type": "input_json_delta", "partial_json": arguments}))

    def _begin(self, kind: BlockKind, begun: dict[str, Any], index: int, events: list[bytes]) -> None:
        if self._open == (kind, index):
            return
        self._close(events)
        self._open = (kind, index)
        self._has_tool_use |= kind == "tool_use"
        block = {"type": kind} | begun
        events.append(_event({"type": "content_block_start", "index": self._blocks, "content_block": block}))

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": self._blocks, "delta": delta})

    def _close(self, events: list[bytes]) -> None:
        if self._open is not None:
            events.append(_event({"type": "content_block_stop", "index": self._blocks}))
            self._open = None
            self._blocks += 1

    def _message(self, content: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "usage": _usage(usage),
        }

    def _stop(self, choice: dict[str, Any]) -> dict[str, Any]:
        """A chat says `stop` also after a tool that was forced, and names a stop sequence elsewhere."""
        finish, stopped_by = choice.get("finish_reason"), choice.get("stop_reason")
        if finish == "length":
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        if finish == "content_filter":
            return {"stop_reason": "refusal", "stop_sequence": None}
        if self._has_tool_use:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        if isinstance(stopped_by, str):
            return {"stop_reason": "stop_sequence", "stop_sequence": stopped_by}
        return {"stop_reason": "end_turn", "stop_sequence": None}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Anthropic counts what came from a cache beside the input, a chat within the prompt."""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": max(0, usage.get("prompt_tokens", 0) - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.get("completion_tokens") or 0,
    }


def _arguments(text: str) -> dict[str, Any]:
    """An object always. One that `max_tokens` has cut cannot be read; the stop reason tells of it."""
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _event(content: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (content["type"].encode(), orjson.dumps(content))
