"""Requests: bodies in, what they ask for out. Only the fields that change an answer are read.

Tokens are counted here: a text has as many as it has words, and at least one. Answers are `answer.py`."""

from dataclasses import dataclass, replace
from typing import Literal

import msgspec

DEFAULT_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Generation:
    """What one chat or completion request asks for."""

    id: str
    model: str
    prompts: tuple[int, ...]  # tokens of each prompt; chat has one
    choices: int  # of all prompts together
    max_tokens: int  # of one choice
    cached_tokens: int  # part of the prompt tokens
    stream: bool
    include_usage: bool
    continuous_usage: bool
    forced_function: str | None = None  # that must be called instead of an answer in words
    forced_by_name: bool = False  # and not because some function must be

    @property
    def prompt_tokens(self) -> int:
        return sum(self.prompts)

    @property
    def completion_tokens(self) -> int:
        return self.choices * self.max_tokens


@dataclass(frozen=True, slots=True)
class Embedding:
    """What one embedding request asks for."""

    id: str
    model: str
    inputs: tuple[str | list[int], ...]
    encoding_format: Literal["float", "base64"]

    @property
    def prompt_tokens(self) -> int:
        return sum(_tokens(one) for one in self.inputs)


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class _ContentPart(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content)
        return self.content or ""


class _GenerationBody(msgspec.Struct, kw_only=True):
    model: str | None = None
    max_tokens: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _ChatBody(_GenerationBody, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None


class _TokenizeBody(msgspec.Struct, kw_only=True):
    messages: list[_Message] | None = None
    prompt: str = ""


class _CompletionBody(_GenerationBody, kw_only=True):
    prompt: str | list[str | int | list[int]]


class _EmbeddingBody(msgspec.Struct, kw_only=True):
    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"


_chat_body = msgspec.json.Decoder(_ChatBody)
_completion_body = msgspec.json.Decoder(_CompletionBody)
_embedding_body = msgspec.json.Decoder(_EmbeddingBody)
_tokenize_body = msgspec.json.Decoder(_TokenizeBody)


@dataclass(slots=True)
class Reader:
    """Reads bodies and numbers them. Raises `msgspec.DecodeError` for what vLLM would refuse with 400."""

    model: str  # of a request that names none
    cached_tokens: int
    requests: int = 0

    def chat(self, body: bytes) -> Generation:
        asked = _chat_body.decode(body)
        max_tokens = asked.max_completion_tokens or asked.max_tokens
        generation = self._generation(asked, self._next_id("chatcmpl"), (_chat_tokens(asked.messages),), max_tokens)
        if asked.tools and isinstance(asked.tool_choice, _Tool):
            return replace(generation, forced_function=asked.tool_choice.function.name, forced_by_name=True)
        if asked.tools and asked.tool_choice == "required":
            return replace(generation, forced_function=asked.tools[0].function.name)
        return generation

    def completion(self, body: bytes) -> Generation:
        asked = _completion_body.decode(body)
        prompts = tuple(_tokens(prompt) for prompt in _separate(asked.prompt))
        return self._generation(asked, self._next_id("cmpl"), prompts, asked.max_tokens)

    def embedding(self, body: bytes) -> Embedding:
        asked = _embedding_body.decode(body)
        inputs = _separate(asked.input)
        return Embedding(self._next_id("embd"), asked.model or self.model, inputs, asked.encoding_format)

    def tokenized(self, body: bytes) -> int:
        """How many tokens a text or a chat has."""
        asked = _tokenize_body.decode(body)
        return _tokens(asked.prompt) if asked.messages is None else _chat_tokens(asked.messages)

    def _generation(
        self, asked: _GenerationBody, answer_id: str, prompts: tuple[int, ...], max_tokens: int | None
    ) -> Generation:
        options = asked.stream_options or _StreamOptions()
        return Generation(
            id=answer_id,
            model=asked.model or self.model,
            prompts=prompts,
            choices=len(prompts) * (asked.n or 1),
            max_tokens=max_tokens or DEFAULT_MAX_TOKENS,
            cached_tokens=min(self.cached_tokens, sum(prompts)),
            stream=bool(asked.stream),
            include_usage=options.include_usage,
            continuous_usage=options.include_usage and options.continuous_usage_stats,
        )

    def _next_id(self, prefix: str) -> str:
        self.requests += 1
        return f"{prefix}-{self.requests:032x}"


def _chat_tokens(messages: list[_Message]) -> int:
    return _tokens(" ".join(message.text for message in messages))


def _separate(prompt: str | list[str | int | list[int]]) -> tuple[str | list[int], ...]:
    """OpenAI's four shapes of an input: a text, texts, one list of token ids, or lists of token ids."""
    if isinstance(prompt, str):
        return (prompt,)
    token_ids = [one for one in prompt if isinstance(one, int)]
    if token_ids:
        return (token_ids,)
    return tuple(one for one in prompt if not isinstance(one, int))


def _tokens(text_or_ids: str | list[int]) -> int:
    return max(1, len(text_or_ids.split()) if isinstance(text_or_ids, str) else len(text_or_ids))
