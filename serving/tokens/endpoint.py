"""The life of one token request, from its headers to its relay: who calls, how often, what, and which variant answers.

A plain ASGI application. Every refusal is a StudioError, translated in one place.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from serving import envelope, routing
from serving.budgets.book import Reservation
from serving.cache.reuse import Hit, Reuse
from serving.cache.wish import Wish, read_wish
from serving.fleet.view import Variant
from serving.gateway import Gateway
from serving.journal import JournalBroken
from serving.keys import KeyRecord, require, require_endpoint, require_model
from serving.limits.readings import OverLimit
from serving.routing import Target
from serving.tokens import waiting
from serving.tokens.answers import CompletionsDialect, Dialect
from serving.tokens.client import Client, ClientLeft, Receive, Scope, Send
from serving.tokens.metering import record
from serving.tokens.relay import JSON, Relay
from serving.tokens.request import Request, about, request_id
from serving.tokens.wire import Call, Endpoint, read_call, read_tag
from serving.traces import Timeline
from studio import clock, ids
from studio.errors import InvalidRequest, MethodNotAllowed, ServiceUnavailable, StudioError

CLIENT_LEFT_STATUS = 499  # nginx's word for it, in metrics only

log = structlog.get_logger()


class TokenEndpoint:
    """One path that speaks the engines' own language. Others override how it is read, answered, kept and refused."""

    def __init__(self, endpoint: Endpoint, gateway: Gateway) -> None:
        self._endpoint = endpoint
        self._gateway = gateway

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        """What is asked, in the engines' language. InvalidRequest names the field that is wrong."""
        return read_call(self._endpoint, body)

    def dialect(self, call: Call, id: UUID) -> Dialect:
        """How the answer is told."""
        return CompletionsDialect.of(call, id.hex)

    async def keep(self, request: Request, content: dict[str, Any] | None) -> None:
        """Called for each good answer, when it is metered and before its last byte is told. A stream has no `content`:
        its dialect has seen it."""

    async def answer(self, client: Client, request: Request) -> None:
        """Until the last byte. StudioError only as long as the caller has not received the first."""
        if request.reuse is not None and request.reuse.hit is not None:
            await self._answer_again(client, request, request.reuse.hit)
        else:
            await Relay(self._gateway, client, request, self.keep).run()

    def refusal(self, error: StudioError, id: UUID) -> bytes:
        """The body of a refusal."""
        return envelope.body_of(error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, receive, send)
        id: UUID = scope["studio.request_id"]
        variant: Variant | None = None
        request: Request | None = None
        started_at = ids.instant_of(id)  # the one instant of the event, so that its day and its id agree
        timeline = self._gateway.traces.begin(id, self._endpoint.path)
        status = 200
        self._gateway.metrics.in_flight.inc()
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(scope["method"], self._endpoint.path, ("POST",))
            request = await self._admit(client, id, started_at, timeline)
            variant = request.variant
            await self._answer(client, request)
            if client.left:
                status = CLIENT_LEFT_STATUS
        except ClientLeft:
            status = CLIENT_LEFT_STATUS
        except asyncio.CancelledError:
            # The gateway stops and its time of grace is over; the relay has already ended what was streaming.
            stopping = ServiceUnavailable("The gateway is stopping.", retry_after=timedelta(seconds=1))
            status = stopping.status
            await self._refuse(client, stopping, id)
        except StudioError as error:
            status = error.status
            await self._refuse(client, error, id)
        except Exception:
            log.exception("request_failed", **({"request": request_id(id)} if request is None else about(request)))
            status = 500
            failed = StudioError("The gateway failed. The header `x-request-id` names this case.")
            await self._refuse(client, failed, id)
        finally:
            client.stop_watching()
            if request is not None and request.reservation is not None:
                request.reservation.release()
            if request is not None and request.sample is not None:
                self._gateway.cross_check.release(request.sample)
            self._gateway.metrics.in_flight.dec()
            self._gateway.metrics.request_ended(variant, status, clock.now() - started_at)
            if timeline is not None:
                self._gateway.traces.end(timeline, id, started_at, status)

    async def _admit(self, client: Client, id: UUID, started_at: datetime, timeline: Timeline | None) -> Request:
        caller = require(await self._gateway.callers.in_tenant(client.header, started_at), "inference")
        require_endpoint(caller, self._endpoint.path)
        tag = read_tag(client.header(b"x-studio-tag"))
        wish = read_wish(client.header) if self._endpoint.is_metered else None
        if self._gateway.journal.broken:
            raise JournalBroken
        body = await client.read_body(self._gateway.max_body_bytes)
        call = await self.read(caller, body)
        return await self.admit(client, id, started_at, timeline, caller, call, len(body), tag, wish)

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
        """A well-formed request, with all that it needs set aside. StudioError says why not."""
        require_model(caller, call.model)
        target = routing.target_named(self._gateway.view.fleet, call.model, caller.tenant_id)
        variant = target.variant
        if variant.task not in self._endpoint.tasks:
            raise InvalidRequest(
                f"The model `{target.name}` is for {variant.task}; {self._endpoint.path} cannot use it.", param="model"
            )
        lease = await self._gateway.limits.admit(caller, variant, call, body_bytes, request_id(id))
        reservation = None
        try:
            reuse = await self._look(caller, target, call, wish)
            if reuse is not None and reuse.hit is not None:
                # No engine is needed, so it may sleep.
                reservation = await self._reserve_reuse(caller, started_at, variant, reuse.hit)
            else:
                # Who waits for a cold model counts as a running request: its body is held here meanwhile.
                health = self._gateway.engines.balancer.health
                target = await waiting.ready_target(self._gateway.view, health, client, call.model, caller.tenant_id)
                variant = target.variant
                if self._endpoint.is_metered:
                    reservation = await self._reserve(caller, started_at, call, variant, body_bytes)
                if reuse is not None:
                    call = reuse.to_ask(call)
                # Not for a caller without money. What an image costs at most is known without it.
                call = await self._gateway.images.handed_over(call, variant, caller.tenant_id)
        except BaseException:
            if reservation is not None:
                reservation.release()
            if lease is not None:
                lease.end(0)
            raise
        admitted_at = clock.now()
        if timeline is not None:
            timeline.model, timeline.variant_id, timeline.tier = call.model, variant.id, variant.tier
            timeline.tenant, timeline.is_stream, timeline.admitted_at = caller.tenant_slug, call.stream, admitted_at
        dialect, sample = self.dialect(call, id), None
        if reuse is None:  # what a cache gave was not the engine's to count
            sample = self._gateway.cross_check.begin(id, call, target, body_bytes)
        return Request(
            *(id, started_at, caller, call, target, dialect),
            lease, reservation, tag, timeline, reuse, sample, admitted_at,
        )  # fmt: skip

    async def _look(self, caller: KeyRecord, target: Target, call: Call, wish: Wish | None) -> Reuse | None:
        if wish is None:
            return None
        reuse = await self._gateway.cache.look(caller, target, call, wish)
        self._gateway.metrics.cache_asked(target.variant, reuse.outcome)
        return reuse

    async def _reserve_reuse(self, caller: KeyRecord, now: datetime, variant: Variant, hit: Hit) -> Reservation | None:
        prices = self._gateway.view.fleet.prices_for(caller.tenant_id, variant.id)
        return await self._gateway.budgets.reserve_reuse(caller.tenant_id, caller.id, now, prices, hit.counts.reused)

    async def _reserve(
        self, caller: KeyRecord, now: datetime, call: Call, variant: Variant, body_bytes: int
    ) -> Reservation | None:
        return await self._gateway.budgets.reserve(
            caller.tenant_id,
            caller.id,
            now,
            self._gateway.view.fleet.prices_for(caller.tenant_id, variant.id),
            call.most_prompt_tokens(body_bytes, variant.context_tokens),
            call.choices,
            call.most_tokens(variant.max_output_tokens or variant.context_tokens),
        )

    async def _answer_again(self, client: Client, request: Request, hit: Hit) -> None:
        await record(self._gateway, request, None, hit.counts, None, "complete")
        await client.answer(200, JSON + request.headers, request.dialect.whole(hit.content))

    async def _answer(self, client: Client, request: Request) -> None:
        try:
            await self.answer(client, request)
        finally:
            # Before a refusal is told. Nothing of the answer was counted, or this has happened already.
            if request.lease is not None:
                request.lease.end(0)

    async def _refuse(self, client: Client, error: StudioError, id: UUID) -> None:
        if not client.has_first_byte:
            headers = error.headers if isinstance(error, OverLimit) else []
            await client.answer(error.status, envelope.headers_of(error) + headers, self.refusal(error, id))
