"""The common events of a stream, a token and nothing else, rewritten as bytes: they are what a stream consists of, and
parsing them and writing them anew costs several times as much. What has arrived together is rewritten together. Pure.

The pattern is a whole event as vLLM writes it. Whatever differs in anything (a first or last event, an error, log
probabilities, a tool call, an engine of another version) does not match and goes the long way through `answers.py`,
which is also what the tests compare with.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

import orjson

from serving.tokens.answers import CompletionsDialect, Dialect
from serving.tokens.wire import Call

_CHOICES = b'"choices":['
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
# Its choice, what vLLM adds of its own and leaves empty, and the running usage.
_COMMON = re.compile(
    rb'(\{"index":0,(?:"delta":\{"content":' + _STRING + rb'\}|"text":' + _STRING + rb")"
    rb',"logprobs":null,"finish_reason":null)(?:,"(?:stop_reason|prompt_token_ids|token_ids)":null)*\}\]'
    rb',"usage":(\{"prompt_tokens":[^{}]*\})\}\n\n',
)


class Run(NamedTuple):
    """Some common events one after the other, and where they end."""

    visible: bytes  # as the client gets them
    usage: bytes  # of the last, as the engine sent it
    end: int


class EventPatcher:
    """For one stream with one choice, of which the client sees no running usage."""

    def __init__(self, answer_id: str, model: str, include_usage: bool) -> None:
        self._own = {"id": answer_id, "model": model}
        self._own_head = b""
        self._own_tail = b'}],"usage":null}\n\n' if include_usage else b"}]}\n\n"
        self._engine_head: bytes | None = None
        self._match = _COMMON.match

    @classmethod
    def of(cls, call: Call, dialect: Dialect) -> Self | None:
        """None for a stream whose events differ in more than their text."""
        if not isinstance(dialect, CompletionsDialect) or call.choices != 1 or dialect.continuous_usage:
            return None
        return cls(dialect.answer_id, dialect.model, dialect.include_usage)

    def learn(self, payload: bytes) -> None:
        """An event that went the long way: its head, up to the choices, is that of all others of the stream."""
        at = payload.find(_CHOICES)
        if self._engine_head is not None or at < 0:
            return
        head = orjson.loads(payload[:at] + _CHOICES + b"]}")
        if set(head) == {"id", "object", "created", "model", "choices"}:
            del head["choices"]
            self._engine_head = b"data: " + payload[: at + len(_CHOICES)]
            self._own_head = b"data: " + orjson.dumps(head | self._own)[:-1] + b"," + _CHOICES

    def patch(self, events: bytes, at: int) -> Run | None:
        """All common events from `at` on, up to the first that is not; None if there is none."""
        head = self._engine_head
        if head is None:
            return None
        choices = []
        while events.startswith(head, at) and (common := self._match(events, at + len(head))) is not None:
            choice, usage = common.groups()
            choices.append(choice)
            at = common.end()
        if not choices:
            return None
        visible = self._own_head + (self._own_tail + self._own_head).join(choices) + self._own_tail
        return Run(visible, usage, at)
