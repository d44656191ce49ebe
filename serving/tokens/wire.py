"""Requests of the token endpoints: what they must look like. Pure. What an engine is sent is `engine_request.py`.

Only fields that decide something here are typed; all others pass to the engine, which validates its own. Every
optional field may be `null`, as OpenAI allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
import orjson
from msgspec import Meta, Struct

from serving.tokens import unsafe
from serving.tokens.tools import Tool, ToolChoice, check_choice, held_to_schema
from studio.errors import InvalidRequest

Request = TypeVar("Request", bound=Struct)
AtLeastOne = Annotated[int, Meta(ge=1)]


class StreamOptions(Struct):
    """What a streaming client wants to see of its usage."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Message(Struct):
    """An unknown role would go straight into the engine's chat template. Parts of a content are `images/parts.py`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class JsonSchema(Struct):
    """The schema of an answer, under a name."""

    name: str
    schema: dict[str, Any] | None = None


class ResponseFormat(Struct):
    """What an answer must look like. `structural_tag` is vLLM's own."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None


class TokenRequest(Struct, kw_only=True):
    """What all three endpoints share."""

    model: Annotated[str, Meta(min_length=1)]
    cache_salt: str | None = None


class GenerationRequest(TokenRequest, kw_only=True):
    """What chat and completions share."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: AtLeastOne | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    structured_outputs: dict[str, Any] | None = None  # vLLM's own, which fails of another type


class ChatRequest(GenerationRequest, kw_only=True):
    """`/v1/chat/completions`"""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: AtLeastOne | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(min_length=1)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    functions: Any = None  # what `tools` were before 2024; engines overlook it


class CompletionRequest(GenerationRequest, kw_only=True):
    """`/v1/completions`"""

    prompt: Annotated[str, Meta(min_length=1)] | Annotated[list[Any], Meta(min_length=1)]


class EmbeddingRequest(TokenRequest, kw_only=True):
    """`/v1/embeddings`"""

    input: Annotated[str, Meta(min_length=1)] | Annotated[list[Any], Meta(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: AtLeastOne | None = None
    messages: None = None  # the engine would read these instead, and fetch what they name


Text = Annotated[str, Meta(min_length=1)]
Texts = Annotated[list[Text], Meta(min_length=1, max_length=2048)]


class RerankRequest(TokenRequest, kw_only=True):
    """`/v1/rerank`: texts only, since an engine would fetch what a part of another kind names."""

    query: Text
    documents: Text | Texts
    top_n: Annotated[int, Meta(ge=0)] | None = None


class ScoreRequest(TokenRequest, kw_only=True):
    """`/v1/score`: one of the engine's four pairs of fields."""

    queries: Text | Texts | None = None
    documents: Text | Texts | None = None
    items: Text | Texts | None = None
    text_1: Text | Texts | None = None
    text_2: Text | Texts | None = None
    data_1: Text | Texts | None = None
    data_2: Text | Texts | None = None


_SCORE_PAIRS = (("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2"))
_COMPARED = {name for pair in _SCORE_PAIRS for name in pair}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path of ours, and the engine's path that answers it."""

    path: str
    engine_path: str
    request: type[Struct]
    tasks: frozenset[str]  # of the models that answer it
    id_prefix: str  # of the answers
    limits: tuple[str, ...] = ()  # the engine's fields that bound an answer, the preferred one last; none: reads only
    default_tokens: int | None = None  # of an answer without a limit; None: as many as the context holds
    is_metered: bool = True  # whether the engine's model works for it, which costs

    @property
    def generates(self) -> bool:
        """Whether tokens are written, and not only read."""
        return bool(self.limits)


CHAT_PATH = "/v1/chat/completions"
CHAT_LIMITS = ("max_tokens", "max_completion_tokens")
CHAT_TASKS = frozenset({"chat"})
COMPLETION_DEFAULT_TOKENS = 16  # OpenAI's, which the engine keeps
CHAT = Endpoint(CHAT_PATH, CHAT_PATH, ChatRequest, CHAT_TASKS, "chatcmpl-", CHAT_LIMITS)
COMPLETIONS = Endpoint(
    "/v1/completions",
    "/v1/completions",
    CompletionRequest,
    frozenset({"chat", "completion"}),
    "cmpl-",
    ("max_tokens",),
    COMPLETION_DEFAULT_TOKENS,
)
EMBEDDING_TASKS = frozenset({"embedding"})
EMBEDDINGS = Endpoint("/v1/embeddings", "/v1/embeddings", EmbeddingRequest, EMBEDDING_TASKS, "embd-")
RERANK = Endpoint("/v1/rerank", "/v1/rerank", RerankRequest, EMBEDDING_TASKS, "rerank-")
SCORE = Endpoint("/v1/score", "/v1/score", ScoreRequest, EMBEDDING_TASKS, "score-")
BATCHED = (CHAT, COMPLETIONS, EMBEDDINGS)
ENDPOINTS = (*BATCHED, RERANK, SCORE)

TEMPLATE_TOKENS = 256
TAG_LENGTH = 64


class Call(Struct, frozen=True):
    """A request that has been read and found well-formed."""

    endpoint: Endpoint
    payload: dict[str, Any]  # in the engine's language, with what the client sent; never changed
    model: str
    client_salt: str
    stream: bool
    include_usage: bool
    continuous_usage: bool
    alias: str | None = None  # what the caller knows the model as, where it must not know more
    cache_owner: UUID | None = None  # the key whose caches it uses; None: its tenant's

    @property
    def shown_model(self) -> str:
        """The model's name in the answer."""
        return self.alias or self.model

    @property
    def choices(self) -> int:
        """How many answers there will be in all."""
        prompt = self.payload.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and not _are_tokens(prompt) else 1
        return prompts * self.choices_per_prompt

    def most_prompt_tokens(self, body_bytes: int, context_tokens: int) -> int:
        """More than the prompt can have. A token is at least one byte of the body, but for those that the model's own
        template adds; an image is as many tokens as its model makes of it, whatever its address has bytes."""
        if self.has_media:
            return context_tokens
        bound = self.bytes_read(body_bytes) + TEMPLATE_TOKENS
        if self.endpoint in (RERANK, SCORE):
            # A model that reads both texts of a pair together reads the query again with each document.
            given = (self.payload.get(name) for name in _COMPARED)
            pairs = max((len(texts) for texts in given if isinstance(texts, list)), default=1)
            return min(bound, 2 * context_tokens) * pairs
        return bound

    def bytes_read(self, body_bytes: int) -> int:
        """How much the model reads at most, of a request with a body of so many bytes."""
        return body_bytes

    @property
    def has_media(self) -> bool:
        """Whether something is more than read: an image, or whatever else an engine would fetch."""
        if self.endpoint.engine_path != CHAT_PATH:
            return False
        contents = (message.get("content") for message in self.payload.get("messages") or ())
        parts = (part for content in contents if isinstance(content, list) for part in content)
        return not all(is_text(part) for part in parts)

    def most_tokens(self, context_tokens: int) -> int | None:
        """The longest that one answer can become; None where no answer is written."""
        if not self.endpoint.generates:
            return None
        given = [self.payload.get(name) for name in self.endpoint.limits]
        return min(
            (limit for limit in given if limit is not None), default=self.endpoint.default_tokens or context_tokens
        )

    @property
    def choices_per_prompt(self) -> int:
        """How many answers each prompt gets."""
        return self.payload.get("n") or 1 if self.endpoint.generates else 1


def read_call(endpoint: Endpoint, body: bytes) -> Call:
    """Parse and check a body. InvalidRequest names the field."""
    payload = parse(body)
    if endpoint.request is ChatRequest:
        return read_chat(endpoint, payload)
    request = typed(payload, endpoint.request)
    # vLLM would take a chat here, too, and fetch the images that nobody has looked at.
    payload.pop("messages", None)
    if isinstance(request, CompletionRequest):
        _check_inputs("prompt", request.prompt)
    if isinstance(request, EmbeddingRequest):
        _check_inputs("input", request.input)
    if isinstance(request, ScoreRequest):
        _check_pair(request)
    if not isinstance(request, GenerationRequest):
        assert isinstance(request, TokenRequest)
        return Call(endpoint, payload, request.model, request.cache_salt or "", False, False, False)
    return _generation(endpoint, payload, request)


def read_chat(endpoint: Endpoint, payload: Any) -> Call:
    """A chat completion, whoever has put it into these words. InvalidRequest names the field."""
    request = typed(payload, ChatRequest)
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("`top_logprobs` needs `logprobs: true`.", param="top_logprobs")
    if request.functions is not None:
        raise InvalidRequest("`functions` are not read here; write them as `tools`.", param="functions")
    if request.response_format == ResponseFormat("json_schema"):
        raise InvalidRequest("Missing required field `json_schema`.", param="response_format.json_schema")
    check_choice(request.tools, request.tool_choice)
    if request.tools is not None:
        payload = payload | {"tools": held_to_schema(payload["tools"], request.tool_choice)}
    return _generation(endpoint, payload, request)


def _generation(endpoint: Endpoint, payload: dict[str, Any], request: GenerationRequest) -> Call:
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("`stream_options` is only allowed with `stream: true`.", param="stream_options")
    unsafe.check_fields(payload)
    options = request.stream_options or StreamOptions()
    return Call(
        endpoint,
        payload,
        request.model,
        request.cache_salt or "",
        stream=bool(request.stream),
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.include_usage and options.continuous_usage_stats),
    )


def parse(body: bytes) -> Any:
    """The body as JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error


def typed(payload: Any, type: type[Request], at: str = "") -> Request:
    """The checked fields of a body, or of its part `at`. InvalidRequest names the one that is wrong."""
    try:
        return msgspec.convert(payload, type)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), at) from error


def is_text(part: Any) -> bool:
    """Whether a part of a message's content is only read. Engines fetch what other parts name, and take a text with a
    `uuid` for one of those (vLLM 0.32)."""
    return isinstance(part, dict) and part.get("type") == "text" and "uuid" not in part


def read_tag(header: str | None) -> str | None:
    """What a caller wants its usage to be found under."""
    if not header:
        return None
    if len(header) > TAG_LENGTH or not (header.isascii() and header.isprintable()):
        raise InvalidRequest(
            f"The header `x-studio-tag` takes at most {TAG_LENGTH} printable ASCII characters.", param="x-studio-tag"
        )
    return header


def _check_inputs(name: str, value: str | list[Any]) -> None:
    """OpenAI's four shapes: a text, texts, one list of token ids, or lists of token ids."""
    if isinstance(value, str):
        return
    if all(isinstance(one, str) and one for one in value) or _are_tokens(value):
        return
    if all(isinstance(one, list) and one and _are_tokens(one) for one in value):
        return
    raise InvalidRequest(
        f"`{name}` must be a non-empty string, strings, token ids, or lists of token ids; no empty part.", param=name
    )


def _check_pair(request: ScoreRequest) -> None:
    given = {name for name in _COMPARED if getattr(request, name) is not None}
    if not any(given == set(pair) for pair in _SCORE_PAIRS):
        pairs = ", or ".join(f"`{one}` and `{other}`" for one, other in _SCORE_PAIRS)
        raise InvalidRequest(f"Give exactly one pair of texts: {pairs}.", param=_SCORE_PAIRS[0][0])
    one, other = next(pair for pair in _SCORE_PAIRS if given == set(pair))
    first, second = getattr(request, one), getattr(request, other)
    if isinstance(first, list) and len(first) > 1 and len(first) != (len(second) if isinstance(second, list) else 1):
        raise InvalidRequest(f"`{one}` must be one text, or as many as `{other}`.", param=one)


def _are_tokens(values: list[Any]) -> bool:
    return all(type(one) is int and one >= 0 for one in values)


_AT_PATH: Callable[[str], re.Match[str] | None] = re.compile(r"^(.*?)(?: - at `\$\.?(.*?)`)?$", re.DOTALL).match


def _invalid(violation: str, at: str) -> InvalidRequest:
    """msgspec says "Expected `int` >= 1 - at `$.n`"; OpenAI's clients look for the field in `param`."""
    match = _AT_PATH(violation)
    assert match is not None  # the pattern matches everything
    what, path = match[1], match[2]
    missing = re.search(r"missing required field `(.+?)`", what)
    param = ".".join(filter(None, (at, path, missing[1] if missing else None)))
    message = what.replace("Object missing", "Missing")
    return InvalidRequest(f"{message}{f' in `{param}`' if param and not missing else ''}.", param=param or None)
