"""Whole answers of chat and completion models, given again to the same request."""

from __future__ import annotations

from typing import Any, Self
from uuid import UUID

import msgspec
import orjson

from serving.cache import exact
from serving.cache.reuse import Hit, Reuse, as_hit
from serving.cache.shelf import Shelf
from serving.cache.wish import Wish
from serving.fleet.view import Fleet
from serving.routing import Target
from serving.tokens.usage import read_usage
from serving.tokens.wire import Call
from studio import clock


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    at: float  # Unix time
    content: bytes  # the engine's JSON


class AnswerReuse(Reuse):
    """Of one request."""

    def __init__(self, shelf: Shelf, tenant_id: UUID, name: str, wish: Wish, hit: Hit | None) -> None:
        super().__init__(hit)
        self._shelf = shelf
        self._tenant_id = tenant_id
        self._name = name
        self._wish = wish

    @classmethod
    async def look(cls, shelf: Shelf, tenant_id: UUID, call: Call, target: Target, fleet: Fleet, wish: Wish) -> Self:
        """For what answers the call."""
        name = shelf.name(tenant_id, call.cache_owner, exact.same_answer(call, target, fleet))
        (found,) = await shelf.find(tenant_id, [name]) if wish.reads else [None]
        return cls(shelf, tenant_id, name, wish, None if found is None else _read(found, wish))

    async def keep(self, content: dict[str, Any]) -> None:
        if exact.is_whole(content):
            kept = _Kept(clock.now().timestamp(), orjson.dumps(content))
            self._shelf.keep(self._tenant_id, self._name, msgspec.msgpack.encode(kept), self._wish.ttl)


def _read(found: bytes, wish: Wish) -> Hit | None:
    kept = msgspec.msgpack.decode(found, type=_Kept)
    age = max(0.0, clock.now().timestamp() - kept.at)
    if age > wish.oldest.total_seconds():
        return None
    content: dict[str, Any] = orjson.loads(kept.content)
    counts = read_usage(content["usage"])
    content["usage"]["prompt_tokens_details"] = None  # of the engine's own cache, which this request did not meet
    return as_hit(content, counts.prompt, counts.completion, counts.reasoning, int(age))
