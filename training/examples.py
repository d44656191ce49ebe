"""Examples for the trainer: conversations in, token ids and labels out. For the engine environment.

Only what the assistant says is learned (labels elsewhere are -100). What does not fit into the context is cut from the
end; what has nothing left to learn is dropped. Both are counted, since a silent loss looks like a bad model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.fine_tuning import lines as jsonl

IGNORED = -100  # torch's own word for a label that does not count

Example = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Examples:
    """Ready rows, in the file's order."""

    rows: list[Example]
    cut: int
    dropped: int

    @property
    def tokens(self) -> int:
        """All of them, prompts included: what one epoch reads."""
        return sum(len(row["input_ids"]) for row in self.rows)


def read_examples(path: Path, tokenizer: Any, context_tokens: int) -> Examples:
    """Tokenise a validated file. `tokenizer` has the training template."""
    rows: list[Example] = []
    cut = dropped = 0
    for messages in _conversations(path):
        encoded = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = encoded["input_ids"], encoded["assistant_masks"]
        cut += len(ids) > context_tokens
        ids, mask = ids[:context_tokens], mask[:context_tokens]
        if any(mask):
            labels = [id if learned else IGNORED for id, learned in zip(ids, mask, strict=True)]
            rows.append({"input_ids": ids, "labels": labels})
        else:
            dropped += 1
    return Examples(rows, cut, dropped)


def pad(rows: list[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """One batch: rows of equal length. Padding is masked by position, so it may be the end-of-turn token."""
    longest = max(len(row["input_ids"]) for row in rows)

    def column(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return {
        "input_ids": column("input_ids", pad_id),
        "labels": column("labels", IGNORED),
        "attention_mask": (torch.arange(longest)[None, :] < lengths[:, None]).long(),
    }


def _conversations(path: Path) -> Iterator[list[dict[str, Any]]]:
    with path.open("rb") as file:
        for _, line in jsonl.filled(file):
            yield jsonl.parse(line)["messages"]
