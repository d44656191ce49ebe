"""Items, the pieces of a conversation: what callers send, brought into the one form that is stored and shown. Pure.

Ids of items carry the id of their response, so that an `item_reference` leads to the row that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from serving.tokens.wire import typed
from studio.errors import InvalidRequest

Item = dict[str, Any]

_PREFIX = {"message": "msg_", "function_call": "fc_", "function_call_output": "fco_", "reasoning": "rs_"}
_ID = re.compile(r"(?:msg|fc|fco|rs)_([0-9a-f]{32})[io]\d+")


class _Message(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Any]
    id: str | None = None


class _FunctionCall(Struct):
    call_id: str
    name: str
    arguments: str
    id: str | None = None


class _FunctionCallOutput(Struct):
    call_id: str
    output: str | list[Any]
    id: str | None = None


class _ReasoningText(Struct):
    text: str


class _Reasoning(Struct):
    summary: list[_ReasoningText] | None = None
    content: list[_ReasoningText] | None = None
    id: str | None = None


class _Reference(Struct):
    id: str


class _Text(Struct):
    text: str


class _Image(Struct):
    image_url: str | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None
    file_id: str | None = None


def output_id(type: str, response_id: UUID, number: int) -> str:
    """The id of an item of the answer."""
    return f"{_PREFIX[type]}{response_id.hex}o{number}"


def with_ids(items: Iterable[Item], response_id: UUID) -> list[Item]:
    """The items of a request, each with an id: its own if it came with one."""
    return [
        item if item.get("id") else item | {"id": f"{_PREFIX[item['type']]}{response_id.hex}i{number}"}
        for number, item in enumerate(items)
    ]


def response_of(item_id: str) -> UUID | None:
    """The response that an item belongs to; None if the id is none of ours."""
    match = _ID.fullmatch(item_id)
    return UUID(hex=match[1]) if match else None


def read_input(input: str | list[Any]) -> list[Item]:
    """What a caller sent, as items; a reference stays one. InvalidRequest names the place."""
    if isinstance(input, str):
        return [_message("user", [_input_text(input)])]
    return [_item(value, f"input[{number}]") for number, value in enumerate(input)]


def _item(value: Any, at: str) -> Item:
    if not isinstance(value, dict):
        raise InvalidRequest(f"Each item of `input` must be an object; {at} is none.", param=at)
    match kind := value.get("type") or ("message" if "role" in value else "item_reference"):
        case "message":
            message = typed(value, _Message, at)
            return _with_id(message.id, _message(message.role, _content(message, at)))
        case "function_call":
            call = typed(value, _FunctionCall, at)
            fields = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
            return _with_id(call.id, {"type": kind, "status": "completed", **fields})
        case "function_call_output":
            result = typed(value, _FunctionCallOutput, at)
            output = result.output
            if isinstance(output, list):
                output = [_part(part, f"{at}.output[{n}]") for n, part in enumerate(output)]
            answered: Item = {"call_id": result.call_id, "output": output}
            return _with_id(result.id, {"type": kind, "status": "completed", **answered})
        case "reasoning":
            reasoning = typed(value, _Reasoning, at)
            item: Item = {"type": kind, "summary": _texts("summary_text", reasoning.summary), "status": "completed"}
            if reasoning.content is not None:
                item["content"] = _texts("reasoning_text", reasoning.content)
            return _with_id(reasoning.id, item)
        case "item_reference":
            return {"type": kind, "id": typed(value, _Reference, at).id}
    raise InvalidRequest(
        f"Items of the type `{kind}` are not offered here. Known are message, function_call, function_call_output,"
        " reasoning and item_reference.",
        param=f"{at}.type",
    )


def _message(role: str, content: list[Item]) -> Item:
    return {"type": "message", "role": role, "status": "completed", "content": content}


def _with_id(id: str | None, item: Item) -> Item:
    return {"id": id, **item} if id else item


def _content(message: _Message, at: str) -> list[Item]:
    if isinstance(message.content, str):
        return [_output_text(message.content) if message.role == "assistant" else _input_text(message.content)]
    parts = [_part(part, f"{at}.content[{n}]") for n, part in enumerate(message.content)]
    if message.role != "assistant":
        return parts
    if any(part["type"] != "input_text" for part in parts):
        raise InvalidRequest("A message of the assistant can only hold text.", param=f"{at}.content")
    return [_output_text(part["text"]) for part in parts]


def _part(value: Any, at: str) -> Item:
    kind = value.get("type") if isinstance(value, dict) else None
    match kind:
        case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
            return _input_text(typed(value, _Text, at).text)
        case "refusal":
            return _input_text(str(value.get("refusal")))
        case "input_image":
            image = typed(value, _Image, at)
            if image.image_url is None:
                raise InvalidRequest("Images are sent as `image_url`; files are not looked up.", param=f"{at}.file_id")
            return {"type": "input_image", "detail": image.detail or "auto", "image_url": image.image_url}
    raise InvalidRequest(
        f"Content of the type `{kind}` is not offered here. Known are input_text, input_image and output_text.",
        param=f"{at}.type",
    )


def _texts(type: str, texts: list[_ReasoningText] | None) -> list[Item]:
    return [{"type": type, "text": one.text} for one in texts or ()]


def _input_text(text: str) -> Item:
    return {"type": "input_text", "text": text}


def _output_text(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
