"""Tools of a chat request: what they must look like, and that a forced call is really held to its schema. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from studio.errors import InvalidRequest


class Function(Struct, kw_only=True):
    """A function of the client."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    """Engines know no other kind."""

    type: Literal["function"]
    function: Function


class FunctionName(Struct):
    """Of a function that must be called."""

    name: str


class NamedChoice(Struct):
    """This function and no other."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedChoice


def check_choice(tools: list[Tool] | None, choice: ToolChoice | None) -> None:
    """That the choice can be kept."""
    if choice is None or choice == "none":
        return
    if not tools:
        raise InvalidRequest("`tool_choice` is only allowed when `tools` are specified.", param="tool_choice")
    if isinstance(choice, NamedChoice) and choice.function.name not in {tool.function.name for tool in tools}:
        raise InvalidRequest(
            f"`tool_choice` names the function {choice.function.name[:128]!r}, which is not in `tools`.",
            param="tool_choice.function.name",
        )


def held_to_schema(tools: list[dict[str, Any]], choice: ToolChoice | None) -> list[dict[str, Any]]:
    """The same, strict where a call is forced and nobody said otherwise.

    vLLM holds only strict functions to their schema; a forced call of another may come back as any JSON at all, which
    no client expects (vllm#49661).
    """
    if choice != "required" and not isinstance(choice, NamedChoice):
        return tools
    return [
        tool | {"function": tool["function"] | {"strict": True}} if tool["function"].get("strict") is None else tool
        for tool in tools
    ]
