"""The body of `POST /v1/responses`: what it must look like, and what is refused with a way out. Pure.

Fields that are neither OpenAI's nor refused here go on to the engine, as on the other token routes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from serving.tokens.wire import CHAT_LIMITS, CHAT_PATH, CHAT_TASKS, AtLeastOne, Endpoint, TokenRequest, typed
from studio.errors import InvalidRequest

PATH = "/v1/responses"
LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = frozenset(
    {
        LOGPROBS,
        "reasoning.encrypted_content",  # of models whose reasoning is hidden; here it is plain, so there is none
        "message.input_image.image_url",
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
    }
)
Format = Literal["text", "json_object", "json_schema"]
Identifier = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]

# OpenAI's names in its other API, which would otherwise be lost on the way without a word.
_CHAT_WORDS = {
    "messages": "`input`",
    "max_tokens": "`max_output_tokens`",
    "max_completion_tokens": "`max_output_tokens`",
    "response_format": "`text.format`",
    "reasoning_effort": "`reasoning.effort`",
    "logprobs": f"`include: [{LOGPROBS!r}]`",
    "n": "one request for each answer",
}
_NOT_OFFERED = {
    "conversation": "Continue a conversation with `previous_response_id`, or send all of it as `input`.",
    "prompt": "Prompt templates are not kept here: send the text as `instructions` and `input`.",
}


class Reasoning(Struct):
    """How much a reasoning model should think."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class TextFormat(Struct):
    """The form of the answer."""

    type: Format
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class Text(Struct):
    """What is asked of the text."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class FunctionTool(Struct):
    """A function of the caller's. Flat, other than in chat."""

    name: str
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class AskedAlways(TokenRequest, kw_only=True):
    """What a request for an answer and one for a count of tokens share."""

    input: Annotated[str, Meta(min_length=1)] | Annotated[list[Any], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    truncation: Literal["auto", "disabled"] | None = None
    conversation: Any = None
    prompt: Any = None


class ResponsesRequest(AskedAlways, kw_only=True):
    """`/v1/responses`"""

    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    metadata: Metadata | None = None
    max_output_tokens: AtLeastOne | None = None
    max_tool_calls: AtLeastOne | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    user: Identifier | None = None
    safety_identifier: Identifier | None = None
    prompt_cache_key: Identifier | None = None
    service_tier: str | None = None

    @property
    def is_stored(self) -> bool:
        """As with OpenAI, unless asked not to."""
        return self.store is not False

    @property
    def wants_logprobs(self) -> bool:
        """Whether each token's probability is shown."""
        return LOGPROBS in (self.include or ())


class TokensRequest(AskedAlways, kw_only=True):
    """`/v1/responses/input_tokens`"""


RESPONSES = Endpoint(PATH, CHAT_PATH, ResponsesRequest, CHAT_TASKS, "resp_", CHAT_LIMITS)
INPUT_TOKENS = Endpoint(f"{PATH}/input_tokens", "/tokenize", TokensRequest, CHAT_TASKS, "", is_metered=False)
ENDPOINTS = (RESPONSES, INPUT_TOKENS)
# Read here, or OpenAI's and without a meaning for our engines.
_OWN_FIELDS = frozenset(ResponsesRequest.__struct_fields__) | {
    "stream_options",
    "moderation",
    "context_management",
    "prompt_cache_options",
    "prompt_cache_retention",
    "background_options",
    "access_programs",
    "image",
    "verbosity",
    "personality",
}


def read_request(payload: Any) -> ResponsesRequest:
    """A body that asks for an answer. InvalidRequest names the field."""
    request = typed(payload, ResponsesRequest)
    _check(payload)
    if unknown := sorted(set(request.include or ()) - INCLUDABLE):
        raise InvalidRequest(f"`include` has the unknown value `{unknown[0]}`.", param="include")
    if request.background and not request.is_stored:
        raise InvalidRequest("`background: true` needs `store: true`: its answer is fetched later.", param="background")
    if request.background and request.stream:
        raise InvalidRequest(
            "A background response does not stream: ask for its state with `GET /v1/responses/{id}`.", param="stream"
        )
    return request


def read_tokens_request(payload: Any) -> TokensRequest:
    """A body that asks for a count. InvalidRequest names the field."""
    request = typed(payload, TokensRequest)
    _check(payload)
    return request


def others(payload: dict[str, Any]) -> dict[str, Any]:
    """The fields that are for the engine, such as `top_k`."""
    return {name: value for name, value in payload.items() if name not in _OWN_FIELDS}


def _check(payload: dict[str, Any]) -> None:
    for name, instead in _CHAT_WORDS.items():
        if payload.get(name) is not None:
            raise InvalidRequest(f"`{name}` belongs to chat completions; here it is {instead}.", param=name)
    for name, instead in _NOT_OFFERED.items():
        if payload.get(name) is not None:
            raise InvalidRequest(f"`{name}` is not offered. {instead}", param=name)
