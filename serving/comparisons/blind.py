"""Aliases of compared models, and refusals that do not give them away. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple, get_args
from uuid import UUID

import msgspec

from serving.tokens.wire import Call
from studio.errors import StudioError

Letter = Literal["A", "B", "C", "D"]
LETTERS: tuple[Letter, ...] = get_args(Letter)

_ALIAS = re.compile(r"blind-([0-9a-f]{32})-([A-D])")


class Alias(NamedTuple):
    """What a caller writes into `model` instead of a name."""

    comparison_id: UUID
    letter: Letter

    @property
    def text(self) -> str:
        """On the wire."""
        return f"blind-{self.comparison_id.hex}-{self.letter}"


def alias_in(model: str) -> Alias | None:
    """The alias that a `model` is; None for a plain name."""
    match = _ALIAS.fullmatch(model)
    return None if match is None else Alias(UUID(hex=match[1]), LETTERS["ABCD".index(match[2])])


def blinded(call: Call, model: str) -> Call:
    """The same call, for `model`, whose answer names the alias that the caller wrote."""
    return msgspec.structs.replace(call, model=model, payload=call.payload | {"model": model}, alias=call.model)


def without_names(error: StudioError, names: Collection[str], alias: str) -> StudioError:
    """The refusal with the alias where it names the model. Changes and returns `error`."""
    for name in sorted(names, key=len, reverse=True):  # the base tier's name is part of the fast tier's
        error.message = error.message.replace(name, alias)
    return error
