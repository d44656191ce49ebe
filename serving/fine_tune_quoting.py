"""What a fine-tune would read, counted before anything is trained: each example by the model's own tokenizer.

The trainer counts the same text, since its template renders what the engine's does (`training/chat_templates`), and it
cuts each example at the same length. So the figure is what the job costs, but for what is dropped when it is cut.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.engines import Engines
from serving.fleet.view import Fleet
from serving.routing import Target
from serving.tokens import counting
from studio.errors import InvalidRequest
from studio.fine_tuning import lines as jsonl
from studio.fine_tuning.dataset import count_examples
from studio.fine_tuning.hyperparameters import CONTEXT_TOKENS, Hyperparameters

QUOTED_EXAMPLES_MOST = 2_000
AT_ONCE = 16  # questions to the tokenizer
_RENDERED = ("role", "content", "name")  # `weight` is for the trainer alone


@dataclass(frozen=True, slots=True)
class Training:
    """What is read: so many tokens of so many examples, so many times."""

    examples: int
    example_tokens: int
    n_epochs: int

    @property
    def tokens(self) -> int:
        """All that is paid for."""
        return self.example_tokens * self.n_epochs


def read_examples(content: bytes) -> list[list[dict[str, Any]]]:
    """The conversations of a data set. InvalidRequest for all that would fail the job, with its lines."""
    try:
        examples = count_examples(io.BytesIO(content))
    except InvalidRequest as error:
        error.param = "training_file"
        raise
    if examples > QUOTED_EXAMPLES_MOST:
        raise InvalidRequest(
            f"The file has {examples:,} examples; a quote is given for {QUOTED_EXAMPLES_MOST:,} at most.",
            param="training_file",
        )
    return [jsonl.parse(line)["messages"] for _, line in jsonl.filled(io.BytesIO(content))]


async def measure(
    engines: Engines, fleet: Fleet, target: Target, examples: Sequence[list[dict[str, Any]]], n_epochs: int | str
) -> Training:
    """What a training of `examples` reads; `n_epochs` may be "auto". StudioError when no engine can count."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def tokens_of(messages: list[dict[str, Any]]) -> int:
        rendered = [{name: message[name] for name in _RENDERED if name in message} for message in messages]
        async with turns:
            asked = {"messages": rendered, "add_generation_prompt": False}
            return min(await counting.count(engines, fleet, target, asked), CONTEXT_TOKENS)

    counted = await asyncio.gather(*map(tokens_of, examples))
    resolved = Hyperparameters.resolve({"n_epochs": n_epochs}, len(examples))
    return Training(len(examples), sum(counted), resolved.n_epochs)
