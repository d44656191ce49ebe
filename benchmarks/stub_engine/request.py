"""Requests: bodies in, what they ask for out. Only the fields that change an answer are read.

Tokens are counted here: a text has as many as it has words, and at least one. Answers are `answer.py`."""

from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from benchmarks.stub_engine.script import PLAIN, script_of

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
    thoughts: int = 0  # of the completion tokens, the first ones
    call: str | None = None  # the function that is called instead of a text
    call_by_name: bool = False  # and not because some function must be called
    ends_itself: bool = False  # before its limit

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one rerank or score request asks for: each query against its document, or one against all."""

    id: str
    model: str
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    top_n: int

    @property
    def prompt_tokens(self) -> int:
        """As with a model that embeds: each text once."""
        return sum(_tokens(one) for one in (*self.queries, *self.documents))


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
    min_tokens: int | None = None  # one of vLLM's own, which nobody before it looks at
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    cache_salt: str | None = None


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _ChatBody(_GenerationBody, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None

    @property
    def forced_call(self) -> str | None:
        if isinstance(self.tool_choice, _Tool):
            return self.tool_choice.function.name
        return self.tools[0].function.name if self.tools and self.tool_choice == "required" else None


class _CompletionBody(_GenerationBody, kw_only=True):
    prompt: str | list[str | int | list[int]]


class _EmbeddingBody(msgspec.Struct, kw_only=True):
    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"


class _RerankBody(msgspec.Struct, kw_only=True):
    query: str
    documents: str | list[str]
    top_n: int = 0
    model: str | None = None


class _ScoreBody(msgspec.Struct, kw_only=True):
    queries: str | list[str] = msgspec.field(name="text_1")
    documents: str | list[str] = msgspec.field(name="text_2")
    model: str | None = None


class _TokenizeBody(msgspec.Struct, kw_only=True):
    prompt: str | None = None
    messages: list[_Message] = []
    return_token_strs: bool = False


class _DetokenizeBody(msgspec.Struct, kw_only=True):
    tokens: list[int]


_chat_body = msgspec.json.Decoder(_ChatBody)
_completion_body = msgspec.json.Decoder(_CompletionBody)
_embedding_body = msgspec.json.Decoder(_EmbeddingBody)
_rerank_body = msgspec.json.Decoder(_RerankBody)
_score_body = msgspec.json.Decoder(_ScoreBody)
_tokenize_body = msgspec.json.Decoder(_TokenizeBody)
_detokenize_body = msgspec.json.Decoder(_DetokenizeBody)


@dataclass(slots=True)
class Reader:
    """Reads bodies and numbers them. Raises `msgspec.DecodeError` for what vLLM would refuse with 400."""

    model: str  # of a request that names none
    cached_tokens: int
    seen: set[tuple[str | None, str]] | None = None  # completions' prompts by their salt, if they are remembered
    writes_always: int | None = None  # tokens of each choice; None: as many as asked for
    requests: int = 0

    def chat(self, body: bytes) -> Generation:
        asked = _chat_body.decode(body)
        max_tokens = asked.max_completion_tokens or asked.max_tokens
        script = script_of(asked.messages[-1].text) if asked.messages else PLAIN
        call = asked.forced_call or (script.call if asked.tools else None)
        plain = self._generation(asked, self._next_id("chatcmpl"), (_chat_tokens(asked.messages),), max_tokens)
        if script is PLAIN and call is None:
            return plain
        produced = plain.max_tokens if script.words is None else min(plain.max_tokens, script.thoughts + script.words)
        return replace(
            plain,
            max_tokens=max(1, produced),
            thoughts=min(script.thoughts, produced),
            call=call,
            call_by_name=isinstance(asked.tool_choice, _Tool),
            # A call that is forced and has no length of its own is as long as it may be.
            ends_itself=(call is not None and script.words is None)
            or (script.words is not None and script.thoughts + script.words <= plain.max_tokens),
        )

    def completion(self, body: bytes) -> Generation:
        asked = _completion_body.decode(body)
        prompts = tuple(_tokens(prompt) for prompt in _separate(asked.prompt))
        plain = self._generation(asked, self._next_id("cmpl"), prompts, asked.max_tokens)
        if self.seen is None:
            return plain
        prompt = (asked.cache_salt, str(asked.prompt))
        cached = plain.prompt_tokens - 1 if prompt in self.seen else 0
        self.seen.add(prompt)
        return replace(plain, cached_tokens=cached)

    def embedding(self, body: bytes) -> Embedding:
        asked = _embedding_body.decode(body)
        inputs = _separate(asked.input)
        return Embedding(self._next_id("embd"), asked.model or self.model, inputs, asked.encoding_format)

    def rerank(self, body: bytes) -> Comparison:
        asked = _rerank_body.decode(body)
        return self._comparison(asked.model, asked.query, asked.documents, asked.top_n)

    def score(self, body: bytes) -> Comparison:
        asked = _score_body.decode(body)
        return self._comparison(asked.model, asked.queries, asked.documents, 0)

    def tokenize(self, body: bytes) -> tuple[list[str], bool]:
        """Words, and whether they are wanted in the answer."""
        asked = _tokenize_body.decode(body)
        text = " ".join(message.text for message in asked.messages) if asked.prompt is None else asked.prompt
        return text.split(), asked.return_token_strs

    def detokenize(self, body: bytes) -> int:
        """How many tokens are to become a text."""
        return len(_detokenize_body.decode(body).tokens)

    def _comparison(
        self, model: str | None, queries: str | list[str], documents: str | list[str], top_n: int
    ) -> Comparison:
        return Comparison(self._next_id("score"), model or self.model, _listed(queries), _listed(documents), top_n)

    def _generation(
        self, asked: _GenerationBody, answer_id: str, prompts: tuple[int, ...], max_tokens: int | None
    ) -> Generation:
        options = asked.stream_options or _StreamOptions()
        return Generation(
            id=answer_id,
            model=asked.model or self.model,
            prompts=prompts,
            choices=len(prompts) * (asked.n or 1),
            max_tokens=self.writes_always or max_tokens or DEFAULT_MAX_TOKENS,
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


def _listed(texts: str | list[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _tokens(text_or_ids: str | list[int]) -> int:
    return max(1, len(text_or_ids.split()) if isinstance(text_or_ids, str) else len(text_or_ids))
