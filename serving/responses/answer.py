"""The `response` object and the items of its output. Pure. How they are told event by event is `dialect.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from serving.responses.chat import Tools
from serving.responses.items import Item, output_id
from serving.responses.request import ResponsesRequest
from serving.tokens.usage import read_usage
from studio import ids
from studio.errors import StudioError

Response = dict[str, Any]

# OpenAI's list is closed, and strict clients know no other word.
_ERROR_CODES = {400: "invalid_prompt", 413: "invalid_prompt", 429: "rate_limit_exceeded"}


@dataclass(frozen=True, slots=True)
class Ending:
    """Why there is no more."""

    reason: str | None = None  # the engine's word
    is_budget_stop: bool = False  # and ours: that a limit came from the caller's money

    @classmethod
    def of(cls, choice: dict[str, Any]) -> Self:
        """What a choice says."""
        return cls(choice.get("finish_reason"), choice.get("stop_reason") == "budget")


def outline(request: ResponsesRequest, tools: Tools, previous_response_id: str | None, id: UUID) -> Response:
    """A response that has nothing yet, with the settings that hold for it. `truncation` is what is done, not what was
    asked for: nothing is ever cut out of a conversation here, too long a one is refused."""
    text = request.text
    form = text.format if text else None
    shown_format: dict[str, Any] = {"type": form.type if form else "text"}
    if form is not None and form.type == "json_schema":
        shown_format |= {
            "name": form.name,
            "schema": form.schema,
            "description": form.description,
            "strict": form.strict,
        }
    reasoning = request.reasoning
    return {
        "id": ids.to_wire(ids.RESPONSE, id),
        "object": "response",
        "created_at": int(ids.instant_of(id).timestamp()),
        "completed_at": None,
        "status": "queued" if request.background else "in_progress",
        "background": bool(request.background),
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "model": request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": request.is_stored,
        "temperature": request.temperature,
        "text": {"format": shown_format, "verbosity": (text.verbosity if text else None) or "medium"},
        "tool_choice": tools.choice,
        "tools": tools.shown(),
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
    }


def end(response: Response, ending: Ending, usage: dict[str, Any] | None, now: int) -> None:
    """How it ended, from the engine's own words."""
    response["usage"] = usage_of(usage)
    if ending.reason in ("length", "content_filter"):
        details = {"reason": "max_output_tokens" if ending.reason == "length" else "content_filter"}
        if ending.is_budget_stop:
            details["stop_reason"] = "budget"
        response["status"], response["incomplete_details"] = "incomplete", details
    else:
        response["status"], response["completed_at"] = "completed", now


def fail(response: Response, error: StudioError, usage: dict[str, Any] | None) -> None:
    """It broke off; what was produced until then is in it."""
    response["usage"] = usage_of(usage)
    response["status"] = "failed"
    response["error"] = {"code": _ERROR_CODES.get(error.status, "server_error"), "message": error.message}


def usage_of(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """The engine's `usage`, in the words of this API."""
    if usage is None:
        return None
    counts = read_usage(usage)
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.completion,
    }


def output_of(choice: dict[str, Any], response_id: UUID) -> list[Item]:
    """The items of an answer that did not stream: reasoning, text, calls."""
    message = choice["message"]
    status = "incomplete" if choice.get("finish_reason") == "length" else "completed"
    output: list[Item] = []

    def id_of(type: str) -> str:
        return output_id(type, response_id, len(output))

    if reasoning := reasoning_in(message):
        output.append(reasoning_item(id_of("reasoning"), reasoning, "completed"))
    calls = message.get("tool_calls") or ()
    text = message.get("content") or ""
    if text or not (calls or output):
        logprobs = logprobs_in(choice)
        output.append(message_item(id_of("message"), text, logprobs, "completed"))
    for call in calls:
        function = call["function"]
        item = call_item(id_of("function_call"), call["id"], function["name"], function["arguments"], "completed")
        output.append(item)
    output[-1]["status"] = status
    return output


def reasoning_in(part: dict[str, Any]) -> str | None:
    """What a reasoning model thought, in a message or a delta. vLLM had another name for it until 0.12."""
    text: str | None = part.get("reasoning") or part.get("reasoning_content")
    return text


def logprobs_in(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """The probabilities of the tokens in a choice, if they were asked for."""
    logprobs = choice.get("logprobs") or {}
    return [
        {
            "token": one["token"],
            "bytes": one.get("bytes") or [],
            "logprob": one["logprob"],
            "top_logprobs": [
                {"token": top["token"], "bytes": top.get("bytes") or [], "logprob": top["logprob"]}
                for top in sorted(one.get("top_logprobs") or (), key=lambda top: -top["logprob"])  # as OpenAI
            ],
        }
        for one in logprobs.get("content") or ()
    ]


def message_item(id: str, text: str, logprobs: list[dict[str, Any]], status: str) -> Item:
    """A message of the assistant."""
    return {
        "id": id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [text_part(text, logprobs)],
    }


def text_part(text: str, logprobs: list[dict[str, Any]]) -> Item:
    """The text within a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def reasoning_item(id: str, text: str, status: str) -> Item:
    """What the model thought. Open models do not hide it, so it stands there as it is."""
    return {"id": id, "type": "reasoning", "status": status, "summary": [], "content": [reasoning_part(text)]}


def reasoning_part(text: str) -> Item:
    """The text within a reasoning item."""
    return {"type": "reasoning_text", "text": text}


def call_item(id: str, call_id: str, name: str, arguments: str, status: str) -> Item:
    """A call of one of the caller's functions."""
    return {
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
