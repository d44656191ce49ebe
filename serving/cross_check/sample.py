"""One sampled request: what was asked and the text that was answered, in memory until both are counted. Pure.

Only what a tokenizer can count again from the text is sampled; `Skipped` says what is not, and why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from serving.routing import Target
from serving.tokens.engine_request import STEERING
from serving.tokens.wire import CHAT_PATH, EMBEDDINGS, Call

MOST_BYTES = 256 * 1024  # of what is asked, and as many characters of the answer

Skipped = Literal[
    "media",  # an image is as many tokens as its model makes of it
    "tools",  # the engine parts calls from their markup, which was tokens, too
    "reasoning",  # the same with the marks around a thought
    "pairs",  # how rerank and score put query and document together is the model's business
    "other_fields",  # the engine's own, which change what is read or what of the answer is shown
    "stop_string",  # the text ends before the tokens that spelled it
    "broken_off",  # the engine counts tokens whose text nobody received any more
    "too_long",
    "busy",  # as many are held as may be
    "not_counted",  # no engine could be asked, or this one has no tokenizer to ask
]

# They change which tokens are chosen, how many, or what is said beside them, but not what a token is as text.
_UNDERSTOOD = frozenset({
    *("model", "messages", "prompt", "input", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"),
    *("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty"),
    *("stop", "min_tokens", "logprobs", "top_logprobs", "user", "metadata", "store", "service_tier"),
    *("parallel_tool_calls", "encoding_format", "dimensions", *STEERING),
})  # fmt: skip
# The tokenizer takes them as the model's chat does.
_TEMPLATE = frozenset({"add_generation_prompt", "continue_final_message", "add_special_tokens", "chat_template_kwargs"})
_TOOLS = frozenset({"tools", "tool_choice"})


@dataclass(slots=True)
class Sample:
    """One request. What was answered is observed as it passes, and thrown away as soon as it turns out not to count."""

    call: Call
    target: Target
    skipped: Skipped | None = None
    is_waiting: bool = False  # to be counted: the request itself has ended
    unseen_tokens: int = 0  # that ended a choice and are no text
    _texts: dict[int, list[str]] = field(default_factory=dict)  # by choice
    _characters: int = 0

    @property
    def texts(self) -> list[str]:
        """The text of each choice."""
        return ["".join(parts) for parts in self._texts.values()]

    def observe(self, answer: dict[str, Any]) -> None:
        """A whole answer or one event of a stream, as the engine sent it."""
        if self.skipped is not None:
            return
        for choice in answer.get("choices") or ():
            self._read(choice)
        if self._characters > MOST_BYTES:
            self.skipped = "too_long"
        if self.skipped is not None:
            self._texts.clear()

    def _read(self, choice: dict[str, Any]) -> None:
        told = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        if told.get("tool_calls"):
            self.skipped = "tools"
        elif told.get("reasoning") or told.get("reasoning_content"):
            self.skipped = "reasoning"
        if text := told.get("content"):
            self._texts.setdefault(choice["index"], []).append(text)
            self._characters += len(text)
        if choice.get("finish_reason") == "stop":
            if isinstance(choice.get("stop_reason"), str):
                self.skipped = "stop_string"
            else:
                self.unseen_tokens += 1  # the engine counts the token that ended it


def why_skipped(call: Call, body_bytes: int) -> Skipped | None:
    """Why this request cannot be counted again, whatever is answered; None for one that can."""
    fields = {name for name, value in call.payload.items() if value is not None}
    if call.has_media:
        return "media"
    if fields & _TOOLS:
        return "tools"
    if not call.endpoint.generates and call.endpoint != EMBEDDINGS:
        return "pairs"
    # What a grammar forces may be cut into tokens as no tokenizer does. A format `text` forces nothing.
    forms = {"response_format"} if call.payload.get("response_format") == {"type": "text"} else set()
    if fields - _UNDERSTOOD - _TEMPLATE - forms:
        return "other_fields"
    return "too_long" if call.bytes_read(body_bytes) > MOST_BYTES else None


def prompts_of(call: Call) -> tuple[int, list[dict[str, Any]]]:
    """The prompt tokens that need no tokenizer, since they came as such, and what to ask it for the others."""
    template = {name: call.payload[name] for name in _TEMPLATE if call.payload.get(name) is not None}
    if call.endpoint.engine_path == CHAT_PATH:
        return 0, [template | {"messages": call.payload["messages"]}]
    given = call.payload["input" if call.endpoint == EMBEDDINGS else "prompt"]
    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    known = sum(len(one) for one in inputs if isinstance(one, list))
    return known, [template | {"prompt": one} for one in inputs if isinstance(one, str)]
