"""Answers: what was asked in, the bytes that vLLM 0.32 would send out. Pure: no sockets, no clock, no counters.

Taken from `vllm/entrypoints/openai/{chat_completion,completion}/serving.py`: the last token's chunk carries the
`finish_reason`; running usage counts the tokens of *that choice*, only the closing usage chunk has the sum."""

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from benchmarks.stub_engine.request import Comparison, Embedding, Generation

CREATED = 1_760_000_000  # one instant for all answers, so that equal requests get equal bytes
WORD = "word "  # one token
CONTEXT_TOKENS = 32_768
UNFINISHED = '"finish_reason":null'
EMBEDDING_DIMENSIONS = 8
DONE = b"data: [DONE]\n\n"


class Answer(Protocol):
    """The parts of one answer, as events of a stream or whole."""

    def opening(self) -> list[bytes]:
        """The events before the first token."""

    def token(self, number: int) -> bytes:
        """The event of one token; tokens are numbered from 0 and go round the choices."""

    def closing(self) -> list[bytes]:
        """The events after the last token, `[DONE]` included."""

    def whole(self) -> bytes:
        """The answer to a request that does not stream."""


class ChatAnswer:
    """`/v1/chat/completions`"""

    def __init__(self, asked: Generation) -> None:
        self._asked = asked
        self._head = _chunk_head(asked, "chat.completion.chunk")

    def opening(self) -> list[bytes]:
        return [
            (
                f'{self._head}{{"index":{choice},"delta":{{"role":"assistant","content":""}},'
                f'"logprobs":null,"finish_reason":null}}]{self._usage(choice, 0)},'
                f'"prompt_token_ids":null,"prompt_text":null}}\n\n'
            ).encode()
            for choice in range(self._asked.choices)
        ]

    def token(self, number: int) -> bytes:
        choice, completed, is_last = _position(self._asked, number)
        finish = f'"finish_reason":"{_finish_reason(self._asked)}","stop_reason":null' if is_last else UNFINISHED
        return (
            f'{self._head}{{"index":{choice},"delta":{{{self._delta(completed)}}},"logprobs":null,{finish},'
            f'"token_ids":null}}]{self._usage(choice, completed)}}}\n\n'
        ).encode()

    def closing(self) -> list[bytes]:
        return _closing(self._asked, "chat.completion.chunk")

    def whole(self) -> bytes:
        asked = self._asked
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if asked.call else WORD * (asked.max_tokens - asked.thoughts),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": WORD * asked.thoughts or None,
        }
        if asked.call is not None:
            arguments = "".join(_argument_pieces(asked))
            function = {"name": asked.call, "arguments": arguments}
            message["tool_calls"] = [{"id": f"call_{asked.id}", "type": "function", "function": function}]
        return _whole(asked, "chat.completion", {"message": message})

    def _delta(self, completed: int) -> str:
        asked = self._asked
        if completed <= asked.thoughts:
            return f'"reasoning":"{WORD}"'
        if asked.call is None:
            return f'"content":"{WORD}"'
        piece = completed - asked.thoughts - 1
        function: dict[str, str] = {"arguments": _argument_pieces(asked)[piece]}
        call: dict[str, Any] = {"index": 0, "function": function}
        if piece == 0:
            function["name"] = asked.call
            call |= {"id": f"call_{asked.id}", "type": "function"}
        return f'"tool_calls":[{orjson.dumps(call).decode()}]'

    def _usage(self, choice: int, completion_tokens: int) -> str:
        if not self._asked.continuous_usage:
            return ""
        figures = _running_usage(self._asked, choice, completion_tokens)
        thoughts = min(self._asked.thoughts, completion_tokens)
        details = f'{{"reasoning_tokens":{thoughts}}}' if self._asked.thoughts else "null"
        return f',"usage":{{{figures},"completion_tokens_details":{details}}}'


class CompletionAnswer:
    """`/v1/completions`"""

    def __init__(self, asked: Generation) -> None:
        self._asked = asked
        self._head = _chunk_head(asked, "text_completion")

    def opening(self) -> list[bytes]:
        return []

    def token(self, number: int) -> bytes:
        choice, completed, is_last = _position(self._asked, number)
        finish = '"length"' if is_last else "null"
        usage = f',"usage":{{{_running_usage(self._asked, choice, completed)}}}' if self._asked.continuous_usage else ""
        return (
            f'{self._head}{{"index":{choice},"text":"{WORD}","logprobs":null,"finish_reason":{finish},'
            f'"stop_reason":null,"prompt_token_ids":null,"token_ids":null}}]{usage}}}\n\n'
        ).encode()

    def closing(self) -> list[bytes]:
        return _closing(self._asked, "text_completion")

    def whole(self) -> bytes:
        return _whole(self._asked, "text_completion", {"text": WORD * self._asked.max_tokens})


def embeddings(asked: Embedding) -> bytes:
    """`/v1/embeddings`: a vector depends on its text alone."""
    return orjson.dumps(
        {
            "id": asked.id,
            "object": "list",
            "created": CREATED,
            "model": asked.model,
            "data": [
                {"index": index, "object": "embedding", "embedding": _vector(asked, one)}
                for index, one in enumerate(asked.inputs)
            ],
            "usage": _reading(asked.prompt_tokens),
        }
    )


def score(asked: Comparison) -> bytes:
    """`/v1/score`"""
    data = [{"index": index, "object": "score", "score": one} for index, one in enumerate(_scores(asked))]
    head = {"id": asked.id, "object": "list", "created": CREATED, "model": asked.model}
    return orjson.dumps(head | {"data": data, "usage": _reading(asked.prompt_tokens)})


def rerank(asked: Comparison) -> bytes:
    """`/v1/rerank`: the best first."""
    results: list[dict[str, Any]] = [
        {"index": index, "document": {"text": text, "multi_modal": None}, "relevance_score": one}
        for index, (text, one) in enumerate(zip(asked.documents, _scores(asked), strict=True))
    ]
    results.sort(key=lambda result: -result["relevance_score"])
    usage = {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens}
    results = results[: asked.top_n or len(results)]
    return orjson.dumps({"id": asked.id, "model": asked.model, "usage": usage, "results": results})


def tokens(words: list[str], with_words: bool) -> bytes:
    """`/tokenize`: a word is a token."""
    ids = [zlib.crc32(word.encode()) % 49_152 for word in words]
    strings = words if with_words else None
    return orjson.dumps({"count": len(ids), "max_model_len": CONTEXT_TOKENS, "tokens": ids, "token_strs": strings})


def text(tokens: int) -> bytes:
    """`/detokenize`: of whatever tokens."""
    return orjson.dumps({"prompt": WORD * tokens})


def models(name: str, adapters: Mapping[str, str]) -> bytes:
    """`/v1/models`; `adapters` are paths by name."""
    listed: list[dict[str, object]] = [{"id": name, "root": name, "parent": None}]
    listed += [{"id": adapter, "root": path, "parent": name} for adapter, path in adapters.items()]
    common = {
        "object": "model",
        "created": CREATED,
        "owned_by": "vllm",
        "max_model_len": CONTEXT_TOKENS,
        "permission": [],
    }
    return orjson.dumps({"object": "list", "data": [model | common for model in listed]})


def error(status: int, kind: str, message: str) -> bytes:
    """vLLM's envelope: the code is a number and the type a Python class."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


def _chunk_head(asked: Generation, object_name: str) -> str:
    return (
        f'data: {{"id":"{asked.id}","object":"{object_name}","created":{CREATED},'
        f'"model":{orjson.dumps(asked.model).decode()},"choices":['
    )


def _position(asked: Generation, number: int) -> tuple[int, int, bool]:
    """Choice, tokens of this choice so far, and whether this token is its last."""
    completed, choice = divmod(number, asked.choices)
    return choice, completed + 1, completed + 1 == asked.max_tokens


def _running_usage(asked: Generation, choice: int, completion_tokens: int) -> str:
    """Without braces and details, which only chat has."""
    prompt_tokens = asked.prompts[choice * len(asked.prompts) // asked.choices]
    return (
        f'"prompt_tokens":{prompt_tokens},"total_tokens":{prompt_tokens + completion_tokens},'
        f'"completion_tokens":{completion_tokens}'
    )


def _usage(asked: Generation) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": asked.prompt_tokens,
        "total_tokens": asked.prompt_tokens + asked.completion_tokens,
        "completion_tokens": asked.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": asked.cached_tokens},
    }
    if asked.thoughts:
        usage["completion_tokens_details"] = {"reasoning_tokens": asked.thoughts * asked.choices}
    return usage


def _finish_reason(asked: Generation) -> str:
    if not asked.ends_itself:
        return "length"
    return "tool_calls" if asked.call and not asked.call_by_name else "stop"


def _argument_pieces(asked: Generation) -> list[str]:
    """One for each token of the call; whole they are an object."""
    pieces = [WORD] * (asked.max_tokens - asked.thoughts)
    pieces[0] = '{"text": "' + pieces[0]
    pieces[-1] += '"}'
    return pieces


def _reading(prompt_tokens: int) -> dict[str, Any]:
    """The usage of an answer that writes no token."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


def _closing(asked: Generation, object_name: str) -> list[bytes]:
    if not asked.include_usage:
        return [DONE]
    chunk = {
        "id": asked.id,
        "object": object_name,
        "created": CREATED,
        "model": asked.model,
        "choices": [],
        "usage": _usage(asked),
    }
    return [b"data: " + orjson.dumps(chunk) + b"\n\n", DONE]


def _whole(asked: Generation, object_name: str, content: dict[str, Any]) -> bytes:
    finish = _finish_reason(asked)
    choice = content | {"logprobs": None, "finish_reason": finish, "stop_reason": None, "token_ids": None}
    return orjson.dumps(
        {
            "id": asked.id,
            "object": object_name,
            "created": CREATED,
            "model": asked.model,
            "choices": [{"index": index, **choice} for index in range(asked.choices)],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {"completion_tokens_details": None} | _usage(asked),
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "kv_transfer_params": None,
        }
    )


def _scores(asked: Comparison) -> list[float]:
    """Of each pair, one query against all documents if there is only one."""
    queries = asked.queries * len(asked.documents) if len(asked.queries) == 1 else asked.queries
    pairs = zip(queries, asked.documents, strict=True)
    return [zlib.crc32(f"{query}\n{document}".encode()) % 1024 / 1024 for query, document in pairs]


def _vector(asked: Embedding, one: str | list[int]) -> list[float] | str:
    seed = zlib.crc32(str(one).encode())
    values = [((seed >> (4 * k)) % 16 + 1) / 16 for k in range(EMBEDDING_DIMENSIONS)]  # exact in float32
    if asked.encoding_format == "float":
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
