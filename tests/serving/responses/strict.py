"""Answers judged by the official SDK's own types, without any leniency."""

from __future__ import annotations

from typing import Any, cast

import httpx
import orjson
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

Event = dict[str, Any]

_events: TypeAdapter[Any] = TypeAdapter(cast("Any", ResponseStreamEvent))


def response(body: bytes | dict[str, Any]) -> dict[str, Any]:
    """A response object, once the SDK's model has taken it."""
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    Response.model_validate_json(text, strict=True)
    content: dict[str, Any] = orjson.loads(text)
    return content


def events(text: str) -> list[Event]:
    """The events of a stream, each of the type that its line says, numbered without a gap."""
    found: list[Event] = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        head, data = block.split("\n")
        assert data.startswith("data: ")
        payload = data.removeprefix("data: ")
        event = orjson.loads(payload)
        assert head == f"event: {event['type']}"
        assert _events.validate_json(payload, strict=True).type == event["type"]
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    _tells_its_items_whole(found)
    return found


def stream(answer: httpx.Response) -> list[Event]:
    """The events of an answer."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events(answer.text)


def _tells_its_items_whole(found: list[Event]) -> None:
    """Each item that is done is the one in the last object, and its pieces are its text."""
    last = found[-1].get("response", {"output": []})
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert done == last["output"][: len(done)]
    for item in done:
        pieces = "".join(event["delta"] for event in found if event.get("item_id") == item["id"] and "delta" in event)
        assert pieces == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])
