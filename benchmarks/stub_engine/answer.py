"""Answers: what was asked in, the bytes that vLLM 0.32 would send out. Pure: no sockets, no clock, no counters.

Taken from `vllm/entrypoints/openai/{chat_completion,completion}/serving.py`: the last token's chunk carries the
`finish_reason`; running usage counts the tokens of *that choice*, only the closing usage chunk has the sum."""

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from benchmarks.stub_engine.request import Embedding, Generation

CREATED = 1_760_000_000  # one instant for all answers, so that equal requests get equal bytes
WORD = "word "  # one token
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
        finish = '"finish_reason":"length","stop_reason":null' if is_last else '"finish_reason":null'
        return (
            f'{self._head}{{"index":{choice},"delta":{{"content":"{WORD}"}},"logprobs":null,{finish},'
            f'"token_ids":null}}]{self._usage(choice, completed)}}}\n\n'
        ).encode()

    def closing(self) -> list[bytes]:
        return _closing(self._asked, "chat.completion.chunk")

    def whole(self) -> bytes:
        message = {
            "role": "assistant",
            "content": WORD * self._asked.max_tokens,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }
        return _whole(self._asked, "chat.completion", {"message": message})

    def _usage(self, choice: int, completion_tokens: int) -> str:
        if not self._asked.continuous_usage:
            return ""
        figures = _running_usage(self._asked, choice, completion_tokens)
        return f',"usage":{{{figures},"completion_tokens_details":null}}'


class ToolCallAnswer(ChatAnswer):
    """`/v1/chat/completions` where a function must be called: its one argument `text` is the words of the answer."""

    def token(self, number: int) -> bytes:
        choice, completed, is_last = _position(self._asked, number)
        call: dict[str, Any] = {"index": 0, "function": {"arguments": self._piece(completed)}}
        if completed == 1:
            call |= {"id": self._call_id(choice), "type": "function"}
            call["function"]["name"] = self._asked.forced_function
        finish = f'"finish_reason":"{self._finish()}","stop_reason":null' if is_last else '"finish_reason":null'
        return (
            f'{self._head}{{"index":{choice},"delta":{{"tool_calls":[{orjson.dumps(call).decode()}]}},"logprobs":null,'
            f'{finish},"token_ids":null}}]{self._usage(choice, completed)}}}\n\n'
        ).encode()

    def whole(self) -> bytes:
        arguments = "".join(self._piece(1 + k) for k in range(self._asked.max_tokens))
        function = {"name": self._asked.forced_function, "arguments": arguments}
        call = {"id": self._call_id(0), "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": None}
        return _whole(self._asked, "chat.completion", {"message": message}, self._finish())

    def _piece(self, completed: int) -> str:
        opening = '{"text": "' if completed == 1 else ""
        closing = '"}' if completed == self._asked.max_tokens else ""
        return f"{opening}{WORD}{closing}"

    def _call_id(self, choice: int) -> str:
        return f"call_{self._asked.id.rpartition('-')[2]}{choice}"

    def _finish(self) -> str:
        return "stop" if self._asked.forced_by_name else "tool_calls"


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
            "usage": {
                "prompt_tokens": asked.prompt_tokens,
                "total_tokens": asked.prompt_tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
        }
    )


def tokenized(count: int) -> bytes:
    """`/tokenize`"""
    tokens = {"count": count, "max_model_len": 32_768, "tokens": list(range(count)), "token_strs": None}
    return orjson.dumps(tokens)


def models(name: str, adapters: Mapping[str, str]) -> bytes:
    """`/v1/models`; `adapters` are paths by name."""
    listed: list[dict[str, object]] = [{"id": name, "root": name, "parent": None}]
    listed += [{"id": adapter, "root": path, "parent": name} for adapter, path in adapters.items()]
    common = {"object": "model", "created": CREATED, "owned_by": "vllm", "max_model_len": 32_768, "permission": []}
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
    return {
        "prompt_tokens": asked.prompt_tokens,
        "total_tokens": asked.prompt_tokens + asked.completion_tokens,
        "completion_tokens": asked.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": asked.cached_tokens},
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


def _whole(asked: Generation, object_name: str, content: dict[str, Any], finish: str = "length") -> bytes:
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
            "usage": _usage(asked) | {"completion_tokens_details": None},
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "kv_transfer_params": None,
        }
    )


def _vector(asked: Embedding, one: str | list[int]) -> list[float] | str:
    seed = zlib.crc32(str(one).encode())
    values = [((seed >> (4 * k)) % 16 + 1) / 16 for k in range(EMBEDDING_DIMENSIONS)]  # exact in float32
    if asked.encoding_format == "float":
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
