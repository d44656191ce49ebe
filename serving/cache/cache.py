"""What the token path calls: is the answer here already, and may the one that comes be kept."""

from __future__ import annotations

import msgspec

from serving.cache import exact
from serving.cache.answers import AnswerReuse
from serving.cache.reuse import Bypass, Reuse
from serving.cache.shelf import Shelf
from serving.cache.vectors import VectorReuse, Wares
from serving.cache.wish import HEADER, Wish
from serving.engines import Engines
from serving.fleet.view import FleetView
from serving.keys import KeyRecord
from serving.routing import Target
from serving.tokens.wire import EMBEDDINGS, Call
from studio.errors import InvalidRequest


class Cache:
    """Of one gateway process."""

    def __init__(self, shelf: Shelf, engines: Engines, view: FleetView) -> None:
        self.shelf = shelf
        self._view = view
        self._wares = Wares(shelf, engines, view)

    async def look(self, caller: KeyRecord, target: Target, call: Call, wish: Wish) -> Reuse:
        """What there is for a caller that wants it. InvalidRequest when the model sells no cached answers."""
        fleet, name = self._view.fleet, target.name
        why = exact.why_not(call, wish)
        if why != "endpoint" and not exact.is_sold(fleet.prices.get(target.variant.id, ())):
            raise InvalidRequest(
                f"The model `{name}` has no price for cached answers, so it does not give any; `/v1/models` shows which"
                f" do (`reused`). Leave out the header `{HEADER}`.",
                param=HEADER,
            )
        if why is None and not self.shelf.is_used:
            why = "off"
        if why is not None:
            return Bypass(why)
        if caller.own_cache:
            call = msgspec.structs.replace(call, cache_owner=caller.id)
        if call.endpoint is EMBEDDINGS:
            return await VectorReuse.look(self._wares, caller.tenant_id, call, target, fleet, wish)
        return await AnswerReuse.look(self.shelf, caller.tenant_id, call, target, fleet, wish)
