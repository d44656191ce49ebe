"""A request for a response in the engines' language: a chat. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from serving.responses.items import Item
from serving.responses.request import AskedAlways, FunctionTool, ResponsesRequest, TextFormat
from serving.tokens.wire import typed
from studio.errors import InvalidRequest

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions that the model may call."""

    functions: tuple[FunctionTool, ...] = ()
    choice: str | dict[str, Any] = "auto"  # as it was asked for
    allowed: frozenset[str] | None = None  # names, where the choice narrows them
    mode: str | None = None  # "none", "auto", "required", or None: the one function that is allowed

    @property
    def is_forced(self) -> bool:
        """Whether the model must call one."""
        return self.mode in ("required", None)

    def is_strict(self, tool: FunctionTool) -> bool:
        """Whether its arguments follow its schema for certain. Without that a forced call may be no object at all."""
        return self.is_forced if tool.strict is None else tool.strict

    def shown(self) -> list[dict[str, Any]]:
        """As the response shows them."""
        return [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": self.is_strict(tool),
            }
            for tool in self.functions
        ]

    def for_engine(self) -> dict[str, Any]:
        """The fields of the chat."""
        if not self.functions:
            return {}
        allowed = [tool for tool in self.functions if self.allowed is None or tool.name in self.allowed]
        functions = [self._function(tool) for tool in allowed]
        choice: Any = self.mode
        if choice is None:
            choice = {"type": "function", "function": {"name": functions[0]["name"]}}
        return {"tools": [{"type": "function", "function": one} for one in functions], "tool_choice": choice}

    def _function(self, tool: FunctionTool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters or {"type": "object"}}
        if tool.description is not None:
            function["description"] = tool.description
        if self.is_strict(tool):
            function["strict"] = True
        return function


def read_tools(request: AskedAlways) -> Tools:
    """Tools and the choice among them. InvalidRequest for tools that run on OpenAI's side."""
    functions = tuple(_tool(tool, number) for number, tool in enumerate(request.tools or ()))
    names = frozenset(tool.name for tool in functions)
    match choice := request.tool_choice or "auto":
        case "none" | "auto":
            return Tools(functions, choice, None, choice)
        case "required" if functions:
            return Tools(functions, choice, None, choice)
        case {"type": "function", "name": str(name)} if name in names:
            return Tools(functions, choice, frozenset({name}), None)
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [_, *_] as allowed}:
            chosen = frozenset(str(one.get("name")) for one in allowed if isinstance(one, dict))
            if chosen <= names:
                return Tools(functions, choice, chosen, mode)
    raise InvalidRequest(
        "`tool_choice` must be `none`, `auto`, `required`, one of the functions in `tools` as"
        " `{type: function, name: ...}`, or `allowed_tools` of them.",
        param="tool_choice",
    )


def chat_payload(
    request: ResponsesRequest, messages: list[Message], tools: Tools, others: dict[str, Any]
) -> dict[str, Any]:
    """The body for the engine, but for what every token request gets. What runs in the background streams to us: so it
    can be ended at any time and be billed exactly."""
    payload: dict[str, Any] = {
        **others,
        "model": request.model,
        "messages": messages,
        "stream": bool(request.stream or request.background),
        **tools.for_engine(),
    }
    optional = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_completion_tokens": request.max_output_tokens,
        "response_format": _response_format(request.text.format if request.text else None),
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "parallel_tool_calls": request.parallel_tool_calls if tools.functions else None,
    }
    payload |= {name: value for name, value in optional.items() if value is not None}
    if request.wants_logprobs:
        payload |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return payload


def chat_messages(instructions: str | None, items: Iterable[Item]) -> list[Message]:
    """A conversation as a chat. What one turn of the assistant holds becomes one message."""
    messages: list[Message] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    calls: set[str] = set()
    reasoning: str | None = None
    for item in items:
        match item["type"]:
            case "reasoning":
                reasoning = "\n".join(part["text"] for part in item.get("content") or item["summary"]) or None
                continue
            case "message" if item["role"] == "assistant":
                messages.append({"role": "assistant", "content": "".join(part["text"] for part in item["content"])})
            case "message":
                _add_message(messages, item)
            case "function_call":
                calls.add(item["call_id"])
                _add_call(messages, item, is_new_turn=reasoning is not None)
            case "function_call_output":
                if item["call_id"] not in calls:
                    raise InvalidRequest(
                        f"No tool call found for function call output with call_id {item['call_id']}. Send the"
                        " `function_call` item too, or `previous_response_id`.",
                        param="input",
                    )
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
        if reasoning is not None and messages[-1]["role"] == "assistant":
            messages[-1]["reasoning"] = reasoning
        reasoning = None
    return messages


def _add_message(messages: list[Message], item: Item) -> None:
    # Few templates of open models know the role `developer`, and some take only one system message, at the start.
    role = "system" if item["role"] == "developer" else item["role"]
    content = _content(item["content"])
    is_preamble = role == "system" and len(messages) == 1 and messages[0]["role"] == "system"
    if is_preamble and isinstance(content, str) and isinstance(messages[0]["content"], str):
        messages[0]["content"] += "\n\n" + content
    else:
        messages.append({"role": role, "content": content})


def _add_call(messages: list[Message], item: Item, *, is_new_turn: bool) -> None:
    function = {"name": item["name"], "arguments": item["arguments"]}
    if is_new_turn or not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": function})


def _content(content: str | list[Item]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if len(content) == 1 and content[0]["type"] == "input_text":
        text: str = content[0]["text"]
        return text
    return [_part(part) for part in content]


def _part(part: Item) -> dict[str, Any]:
    if part["type"] == "input_image":
        detail = "high" if part["detail"] == "original" else part["detail"]
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": detail}}
    return {"type": "text", "text": part["text"]}


def _tool(tool: dict[str, Any], number: int) -> FunctionTool:
    kind = tool.get("type")
    if kind != "function":
        raise InvalidRequest(
            f"Tools of the type `{kind}` are not offered here: only `function`, which your own code carries out.",
            param=f"tools[{number}].type",
        )
    return typed(tool, FunctionTool, f"tools[{number}]")


def _response_format(format: TextFormat | None) -> dict[str, Any] | None:
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return {"type": "json_object"}
    if format.name is None or format.schema is None:
        raise InvalidRequest("A format of the type `json_schema` needs `name` and `schema`.", param="text.format")
    schema = {"name": format.name, "schema": format.schema, "description": format.description, "strict": format.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}
