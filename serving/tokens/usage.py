"""Counts what an engine says it has used, from whole answers and from streams that may stop anywhere. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson


class TokenCounts(msgspec.Struct, frozen=True):
    """The tokens of one request."""

    prompt: int
    cached: int  # part of prompt
    completion: int
    reasoning: int  # part of completion
    engine_prompt: int  # as the engine's own counter sees the prompt: once for each choice. Never billed
    reused_prompt: int = 0  # part of prompt that no engine read: it came from a cache of ours
    reused_completion: int = 0  # part of completion that no engine wrote

    def __post_init__(self) -> None:
        if not (
            0 <= self.cached <= self.prompt - self.reused_prompt
            and 0 <= self.reasoning <= self.completion
            and self.reused_prompt >= 0
            and 0 <= self.reused_completion <= self.completion
        ):
            raise ValueError(f"impossible token counts: {self}")

    @property
    def of_engine(self) -> int:
        """What an engine has worked on, prompt and completion together."""
        return self.prompt + self.completion - self.reused

    @property
    def reused(self) -> int:
        """What none has."""
        return self.reused_prompt + self.reused_completion


def read_usage(usage: dict[str, Any], choices_per_prompt: int = 1) -> TokenCounts:
    """An engine's `usage` object. A part larger than its whole is cut, since it is never billed beyond it.

    vLLM reports a prompt once however many choices it gets, and counts it in its metrics once for each.
    """
    prompt, completion = usage["prompt_tokens"], usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return TokenCounts(prompt, min(cached, prompt), completion, min(reasoning, completion), prompt * choices_per_prompt)


def counted(answer: dict[str, Any]) -> int:
    """How many tokens an engine's tokenizer says it has found."""
    count = answer["count"]
    if type(count) is not int:
        raise TypeError(count)
    return count


class StreamMeter:
    """The running usage of a stream.

    An engine counts each choice by itself until the last event, which holds the sum and what came from the cache. A
    stream that stops before is the sum over the choices seen; its cached tokens are unknown and count as not cached.
    """

    def __init__(self, choices_per_prompt: int) -> None:
        self._choices_per_prompt = choices_per_prompt
        self._by_choice: dict[int, dict[str, Any]] = {}
        self._total: dict[str, Any] | None = None
        self._latest: bytes | None = None  # usage of the only choice, newer than what is in `_by_choice`
        self.has_begun = False  # whether a first token has been produced

    def observe(self, event: dict[str, Any]) -> None:
        """One event of the stream, as the engine sent it. Only kept here and read at the end: this runs per token."""
        usage = event.get("usage")
        if usage is None:
            return
        self._latest = None
        if not event.get("choices"):
            self._total = usage
            return
        for choice in event["choices"]:
            self._by_choice[choice["index"]] = usage
        if usage["completion_tokens"]:
            self.has_begun = True

    def note(self, usage: bytes) -> None:
        """The running usage of a stream with one choice, as JSON: read only if the stream ends with it."""
        self._latest = usage

    @property
    def is_running(self) -> bool:
        """Whether the engine has said what it has used so far."""
        return self._latest is not None or bool(self._by_choice)

    def counts(self) -> TokenCounts | None:
        """So far; None as long as the engine has not said that it processed the prompt."""
        if self._latest is not None:
            self._by_choice[0] = orjson.loads(self._latest)
        if self._total is not None:
            return read_usage(self._total, self._choices_per_prompt)
        if not self._by_choice:
            return None
        by_choice = {index: read_usage(usage) for index, usage in self._by_choice.items()}
        prompts = {index // self._choices_per_prompt: counts.prompt for index, counts in by_choice.items()}
        return TokenCounts(
            prompt=sum(prompts.values()),
            cached=0,
            completion=sum(counts.completion for counts in by_choice.values()),
            reasoning=sum(counts.reasoning for counts in by_choice.values()),
            engine_prompt=sum(counts.prompt for counts in by_choice.values()),
        )
