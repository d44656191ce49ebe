"""Requests of the Messages API, and the chat completions that say the same. Pure.

Fields that steer only Anthropic's own services (`cache_control`, `service_tier`, betas) are taken and ignored; what
would be silently missing from an answer (their hosted tools, files, remote MCP servers) is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
from msgspec import Meta, Struct

from serving.tokens.wire import CHAT_LIMITS, CHAT_PATH, CHAT_TASKS, AtLeastOne, Call, Endpoint, parse, read_chat, typed
from studio.errors import InvalidRequest

# Claude Code puts a hash of each request in front of its system prompt: left there, no prefix would ever be cached.
_PER_REQUEST_HEADER = "x-anthropic-billing-header"
_MOST_STOP_SEQUENCES = 64  # each is searched for in every token


class Block(Struct, kw_only=True):
    """A content block of any kind; which fields it needs depends on `type`."""

    type: str
    text: str | None = None
    thinking: str | None = None
    source: dict[str, Any] | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None


class Message(Struct):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Struct, kw_only=True):
    """A tool of the client. Those that Anthropic runs itself have another `type`."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Struct, kw_only=True):
    """Whether a tool must be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, kw_only=True):
    """Whether to think aloud. A budget is the engine's own business."""

    type: Literal["enabled", "disabled", "adaptive"]


class OutputFormat(Struct, kw_only=True):
    """The JSON that an answer must be."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct, kw_only=True):
    """How an answer must look."""

    format: OutputFormat | None = None


class CountTokensRequest(Struct, kw_only=True):
    """`/v1/messages/count_tokens`"""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    mcp_servers: list[Any] | None = None
    cache_salt: str | None = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """`/v1/messages`"""

    max_tokens: AtLeastOne
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: (
        Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=_MOST_STOP_SEQUENCES)] | None
    ) = None
    metadata: dict[str, Any] | None = None


MESSAGES = Endpoint("/v1/messages", CHAT_PATH, MessagesRequest, CHAT_TASKS, "msg_", CHAT_LIMITS)
COUNT_TOKENS = Endpoint("/v1/messages/count_tokens", "/tokenize", CountTokensRequest, CHAT_TASKS, "", is_metered=False)


def read_messages(body: bytes) -> Call:
    """A message to be answered, as a chat completion. InvalidRequest names the field."""
    asked = typed(parse(body), MessagesRequest)
    chat = _chat(asked) | {"max_completion_tokens": asked.max_tokens, "stream": bool(asked.stream)}
    if asked.tools:
        chat |= _tool_choice(asked.tools, asked.tool_choice)
    sampling = {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": asked.top_k}
    chat |= {name: value for name, value in sampling.items() if value is not None}
    if asked.stop_sequences:
        chat["stop"] = asked.stop_sequences
    if asked.output_config is not None and asked.output_config.format is not None:
        schema = {"name": "answer", "schema": asked.output_config.format.schema, "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    return read_chat(MESSAGES, chat)


def read_count(body: bytes) -> Call:
    """A message whose tokens are to be counted, as the engine's tokenizer takes it."""
    return read_chat(COUNT_TOKENS, _chat(typed(parse(body), CountTokensRequest)))


def _chat(asked: CountTokensRequest) -> dict[str, Any]:
    """What an answer and a count have in common."""
    if asked.mcp_servers:
        raise InvalidRequest("Remote MCP servers are not available here; call them yourself.", param="mcp_servers")
    if asked.tool_choice is not None and not asked.tools:
        raise InvalidRequest("`tool_choice` needs `tools`.", param="tool_choice")
    chat: dict[str, Any] = {"model": asked.model, "messages": list(_messages(asked))}
    if asked.tools:
        chat["tools"] = [_tool(index, tool) for index, tool in enumerate(asked.tools)]
    if asked.thinking is not None and asked.thinking.type != "adaptive":
        chat["chat_template_kwargs"] = {"enable_thinking": asked.thinking.type == "enabled"}
    if asked.messages[-1].role == "assistant":
        # The answer goes on from these very words, as Anthropic's does.
        chat |= {"continue_final_message": True, "add_generation_prompt": False}
    if asked.cache_salt is not None:
        chat["cache_salt"] = asked.cache_salt
    return chat


def _messages(asked: CountTokensRequest) -> Iterator[dict[str, Any]]:
    # Most chat templates know one system message only, and that in front.
    inline = [message.content for message in asked.messages if message.role == "system"]
    system = [text for content in (asked.system, *inline) for text in _system_texts(content)]
    if system:
        yield {"role": "system", "content": "\n".join(system)}
    for index, message in enumerate(asked.messages):
        if message.role == "system":
            continue
        if isinstance(message.content, str):
            yield {"role": message.role, "content": message.content}
        elif message.role == "assistant":
            yield _assistant(message.content, f"messages[{index}].content")
        else:
            yield from _user(message.content, f"messages[{index}].content")


def _system_texts(content: str | list[Block] | None) -> Iterator[str]:
    blocks = [Block(type="text", text=content)] if isinstance(content, str) else content or []
    for index, block in enumerate(blocks):
        if block.type != "text" or block.text is None:
            raise InvalidRequest("A system prompt is text.", param=f"system[{index}].type")
        if block.text and not block.text.startswith(_PER_REQUEST_HEADER):
            yield block.text


def _assistant(blocks: list[Block], where: str) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        match block.type:
            case "text":
                texts.append(_text(block, f"{where}[{index}]"))
            case "thinking":
                thoughts.append(block.thinking or "")
            case "redacted_thinking":
                pass  # nobody but Anthropic can read it
            case "tool_use":
                calls.append(_tool_use(block, f"{where}[{index}]"))
            case _:
                raise _unknown_block(block, f"{where}[{index}]")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if thoughts:
        message["reasoning"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return message


def _user(blocks: list[Block], where: str) -> Iterator[dict[str, Any]]:
    """Results of tools are messages of their own in a chat, and come right after the calls."""
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        if block.type == "tool_result":
            message, images = _tool_result(block, f"{where}[{index}]")
            yield message
            parts += images
        else:
            parts.append(_part(block, f"{where}[{index}]"))
    if parts:
        yield {"role": "user", "content": parts}


def _tool_result(block: Block, where: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result as text, and its images, which a chat's tool message cannot hold."""
    if block.tool_use_id is None:
        raise InvalidRequest(f"Missing required field `tool_use_id` in `{where}`.", param=f"{where}.tool_use_id")
    blocks = [Block(type="text", text=block.content)] if isinstance(block.content, str) else block.content or []
    parts = [_part(one, f"{where}.content[{index}]") for index, one in enumerate(blocks)]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if block.is_error:
        text = f"Error: {text}"  # a chat has no other way to say it
    message = {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
    return message, [part for part in parts if part["type"] != "text"]


def _part(block: Block, where: str) -> dict[str, Any]:
    match block.type:
        case "text":
            return {"type": "text", "text": _text(block, where)}
        case "image":
            return {"type": "image_url", "image_url": {"url": _image_url(block.source or {}, where)}}
        case "document":
            return {"type": "text", "text": _document(block.source or {}, where)}
        case _:
            raise _unknown_block(block, where)


def _document(source: dict[str, Any], where: str) -> str:
    match source:
        case {"type": "text", "data": str(text)}:
            return text
        case _:
            raise InvalidRequest("A document's source must be `text` with `data` here.", param=f"{where}.source")


def _image_url(source: dict[str, Any], where: str) -> str:
    match source:
        case {"type": "base64", "media_type": str(media_type), "data": str(data)}:
            return f"data:{media_type};base64,{data}"
        case {"type": "url", "url": str(url)}:
            return url
        case _:
            raise InvalidRequest(
                "An image's source is `base64` with `media_type` and `data`, or `url` with `url`.",
                param=f"{where}.source",
            )


def _text(block: Block, where: str) -> str:
    if block.text is None:
        raise InvalidRequest(f"Missing required field `text` in `{where}`.", param=f"{where}.text")
    return block.text


def _tool_use(block: Block, where: str) -> dict[str, Any]:
    if not block.id or not block.name:
        raise InvalidRequest(f"`{where}` needs `id` and `name`.", param=where)
    try:
        arguments = orjson.dumps(block.input or {}).decode()
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"`{where}.input` is nested too deeply.", param=f"{where}.input") from error
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _tool(index: int, tool: Tool) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise InvalidRequest(
            f"The hosted tool `{tool.type}` is not available here; declare a tool of your own with `input_schema`.",
            param=f"tools[{index}].type",
        )
    if tool.input_schema is None:
        raise InvalidRequest(
            f"Missing required field `input_schema` in `tools[{index}]`.", param=f"tools[{index}].input_schema"
        )
    function = {"name": tool.name, "parameters": tool.input_schema}
    optional = {"description": tool.description, "strict": tool.strict}
    return {"type": "function", "function": function | {k: v for k, v in optional.items() if v is not None}}


def _tool_choice(tools: list[Tool], choice: ToolChoice | None) -> dict[str, Any]:
    if choice is None:
        return {"tool_choice": "auto"}
    if choice.type == "tool" and choice.name not in {tool.name for tool in tools}:
        raise InvalidRequest(f"`tool_choice` names {choice.name!r}, which is not in `tools`.", param="tool_choice.name")
    chosen = {
        "auto": "auto",
        "any": "required",
        "none": "none",
        "tool": {"type": "function", "function": {"name": choice.name}},
    }[choice.type]
    return {"tool_choice": chosen, "parallel_tool_calls": not choice.disable_parallel_tool_use}


def _unknown_block(block: Block, where: str) -> InvalidRequest:
    return InvalidRequest(f"A block of type `{block.type[:80]}` is not supported here.", param=f"{where}.type")
