"""Embeddings, input by input: an engine is asked for those that are not known, and the answer is whole.

A vector is kept as float32, in which engines reckon, so both encodings are made of it without a loss; one that is no
float32 is not kept. With it stand its tokens, as an engine bills them. An engine says only their sum, so texts that are
asked together are counted by its tokenizer meanwhile, and nothing is kept unless its counts come to that sum.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from uuid import UUID

import msgspec
import orjson

from serving.cache import exact
from serving.cache.reuse import Hit, Reuse, as_hit
from serving.cache.shelf import Shelf
from serving.cache.wish import Wish
from serving.engines import Engines
from serving.envelope import Headers
from serving.fleet.view import Fleet, FleetView
from serving.routing import Target
from serving.tokens import counting
from serving.tokens.usage import TokenCounts
from serving.tokens.wire import Call
from studio import clock

HITS_HEADER: Final = "x-studio-cache-hits"
_COUNTING_AT_ONCE: Final = 4  # texts of one request, at an engine's tokenizer
_PATIENCE: Final = timedelta(seconds=1)  # with the tokenizer, once the vectors are there

Input = str | list[int]


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    at: float  # Unix time
    tokens: int
    vector: bytes  # float32, little-endian


@dataclass(frozen=True, slots=True)
class Wares:
    """What vectors are found in and counted by."""

    shelf: Shelf
    engines: Engines
    view: FleetView


class VectorReuse(Reuse):
    """Of one request. `known` has a place for each of its inputs."""

    def __init__(
        self, wares: Wares, tenant_id: UUID, call: Call, names: Sequence[str], known: Sequence[_Kept | None], wish: Wish
    ) -> None:
        self._wares = wares
        self._tenant_id = tenant_id
        self._call = call
        self._inputs = inputs_of(call)
        self._names = names
        self._known = known
        self._wish = wish
        self._missing = [place for place, kept in enumerate(known) if kept is None]
        self._fresh: list[bytes] = []
        self._fresh_tokens = 0
        self._counting: asyncio.Task[list[int]] | None = None
        super().__init__(None if self._missing else self._whole())

    @classmethod
    async def look(cls, wares: Wares, tenant_id: UUID, call: Call, target: Target, fleet: Fleet, wish: Wish) -> Self:
        """For each input."""
        same = exact.same_vectors(call, target, fleet)
        names = [wares.shelf.name(tenant_id, call.cache_owner, same + orjson.dumps(one)) for one in inputs_of(call)]
        found = await wares.shelf.find(tenant_id, names) if wish.reads else [None] * len(names)
        return cls(wares, tenant_id, call, names, [_read(one, wish) for one in found], wish)

    @property
    def headers(self) -> Headers:
        hits = len(self._inputs) - len(self._missing)
        return [*super().headers, (HITS_HEADER.encode(), b"%d" % hits)]

    def to_ask(self, call: Call) -> Call:
        return msgspec.structs.replace(
            call, payload=call.payload | {"input": [self._inputs[place] for place in self._missing]}
        )

    def begin(self, target: Target) -> None:
        texts = [one for one in map(self._inputs.__getitem__, self._missing) if isinstance(one, str)]
        if len(self._missing) > 1 and texts and self._wares.shelf.is_connected:
            self._counting = asyncio.create_task(self._count(texts, target))

    def completed(self, content: dict[str, Any], counts: TokenCounts) -> tuple[dict[str, Any], TokenCounts]:
        fresh = sorted(content["data"], key=lambda one: one["index"])
        if len(fresh) != len(self._missing):
            raise ValueError("another number of vectors than of inputs")
        self._fresh = [_packed(one["embedding"]) for one in fresh]
        self._fresh_tokens = counts.prompt
        data: list[dict[str, Any]] = [{}] * len(self._inputs)
        for place, one in zip(self._missing, fresh, strict=True):
            data[place] = one | {"index": place}
        reused = 0
        for place, kept in enumerate(self._known):
            if kept is not None:
                data[place] = self._shown(place, kept)
                reused += kept.tokens
        prompt = counts.prompt + reused
        content |= {"data": data}
        content["usage"] |= {"prompt_tokens": prompt, "total_tokens": prompt}
        return content, msgspec.structs.replace(counts, prompt=prompt, reused_prompt=reused)

    async def keep(self, content: dict[str, Any]) -> None:
        tokens = await self._tokens_of_missing()
        if tokens is None or sum(tokens) != self._fresh_tokens or not all(self._fresh):
            return
        now = clock.now().timestamp()
        for place, vector, count in zip(self._missing, self._fresh, tokens, strict=True):
            kept = msgspec.msgpack.encode(_Kept(now, count, vector))
            self._wares.shelf.keep(self._tenant_id, self._names[place], kept, self._wish.ttl)

    def end(self) -> None:
        if self._counting is not None and not self._counting.cancel() and not self._counting.cancelled():
            self._counting.exception()  # nobody may have asked for it

    async def _tokens_of_missing(self) -> list[int] | None:
        """Of each input that was asked; None when nobody can say."""
        if len(self._missing) == 1:
            return [self._fresh_tokens]
        counted: list[int] = []
        if self._counting is not None:
            try:
                async with asyncio.timeout(_PATIENCE.total_seconds()):
                    counted = await self._counting
            except (TimeoutError, ExceptionGroup):
                return None
        of_texts = iter(counted)
        missing = [self._inputs[place] for place in self._missing]
        if len(counted) != sum(isinstance(one, str) for one in missing):
            return None
        return [next(of_texts) if isinstance(one, str) else len(one) for one in missing]

    async def _count(self, texts: Sequence[str], target: Target) -> list[int]:
        turns = asyncio.Semaphore(_COUNTING_AT_ONCE)

        async def count(text: str) -> int:
            async with turns:
                return await self._count_one(text, target)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(count(text)) for text in texts]
        return [task.result() for task in tasks]

    async def _count_one(self, text: str, target: Target) -> int:
        with_special = self._call.payload.get("add_special_tokens")
        asked = {"prompt": text} if with_special is None else {"prompt": text, "add_special_tokens": with_special}
        return await counting.count(self._wares.engines, self._wares.view.fleet, target, asked)

    def _shown(self, place: int, kept: _Kept) -> dict[str, Any]:
        is_base64 = self._call.payload.get("encoding_format") == "base64"
        vector = base64.b64encode(kept.vector).decode() if is_base64 else list(_unpacked(kept.vector))
        return {"index": place, "object": "embedding", "embedding": vector}

    def _whole(self) -> Hit:
        kept = [one for one in self._known if one is not None]
        prompt = sum(one.tokens for one in kept)
        usage = {"prompt_tokens": prompt, "total_tokens": prompt, "completion_tokens": 0}
        now = clock.now().timestamp()
        content = {
            "object": "list",
            "created": int(now),
            "data": [self._shown(place, one) for place, one in enumerate(kept)],
            "usage": usage | {"prompt_tokens_details": None, "completion_tokens_details": None},
        }
        return as_hit(content, prompt, 0, 0, int(max(0.0, now - min(one.at for one in kept))))


def inputs_of(call: Call) -> list[Input]:
    """OpenAI's four shapes as one: a text or a list of token ids for each vector."""
    given = call.payload["input"]
    return [given] if isinstance(given, str) or isinstance(given[0], int) else given


def _read(found: bytes | None, wish: Wish) -> _Kept | None:
    if found is None:
        return None
    kept = msgspec.msgpack.decode(found, type=_Kept)
    return kept if clock.now().timestamp() - kept.at <= wish.oldest.total_seconds() else None


def _packed(embedding: str | list[float]) -> bytes:
    """As float32; empty when that would lose something."""
    if isinstance(embedding, str):
        vector = base64.b64decode(embedding, validate=True)
        return vector if len(vector) % 4 == 0 else b""
    with contextlib.suppress(OverflowError):
        vector = struct.pack(f"<{len(embedding)}f", *embedding)
        return vector if list(_unpacked(vector)) == embedding else b""
    return b""


def _unpacked(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)
