"""`/v1/chat/completions`, which also takes aliases of a blind comparison. A plain name costs it one look at a text."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Engine

from serving import routing
from serving.cache.wish import Wish
from serving.comparisons import store
from serving.comparisons.blind import alias_in, blinded, without_names
from serving.gateway import Gateway
from serving.keys import KeyRecord
from serving.tokens.client import Client
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.request import Request
from serving.tokens.wire import CHAT, Call
from serving.traces import Timeline
from studio.errors import StudioError


class ChatEndpoint(TokenEndpoint):
    """Metered, limited and billed as the model behind the alias; answers and refusals name the alias."""

    def __init__(self, gateway: Gateway, database: Engine) -> None:
        super().__init__(CHAT, gateway)
        self._database = database

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        call = await super().read(caller, body)
        alias = alias_in(call.model)
        if alias is None:
            return call
        return blinded(call, await asyncio.to_thread(store.model_of, self._database, caller.tenant_id, alias))

    async def admit(
        self,
        client: Client,
        id: UUID,
        started_at: datetime,
        timeline: Timeline | None,
        caller: KeyRecord,
        call: Call,
        body_bytes: int,
        tag: str | None,
        wish: Wish | None,
    ) -> Request:
        admitting = super().admit(client, id, started_at, timeline, caller, call, body_bytes, tag, wish)
        if call.alias is None:
            return await admitting
        try:
            request = await admitting
        except StudioError as error:
            raise without_names(error, self._names(call, caller), call.alias) from error
        # What is told of the target in mid-stream.
        return msgspec.structs.replace(request, target=msgspec.structs.replace(request.target, alias=call.alias))

    async def answer(self, client: Client, request: Request) -> None:
        alias = request.call.alias
        if alias is None:
            return await super().answer(client, request)
        try:
            await super().answer(client, request)
        except StudioError as error:
            raise without_names(error, {request.call.model, request.variant.id}, alias) from error

    def _names(self, call: Call, caller: KeyRecord) -> set[str]:
        """An adapter's base model is named, too. Its model may be gone from the catalog by now."""
        names = {call.model}
        with suppress(StudioError):
            names.add(routing.target_named(self._gateway.view.fleet, call.model, caller.tenant_id).variant.id)
        return names
