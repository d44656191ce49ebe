"""Before all routes: runs a request that carries an `Idempotency-Key` once, and answers its repetitions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from serving import envelope
from serving.gateway import Gateway
from serving.idempotency.joins import Joins
from serving.idempotency.store import LEASE, KeptAnswer, Mine, OtherRequest, Request, Running, Store
from serving.tokens.client import Client, ClientLeft, Message, Receive, Scope, Send
from serving.tokens.endpoint import TokenEndpoint
from studio import clock
from studio.errors import (
    Conflict,
    InvalidApiKey,
    InvalidRequest,
    PermissionDenied,
    ServiceUnavailable,
    StudioError,
)
from studio.sealing import Unreadable

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = b"idempotency-key"
KEY_LENGTH = 255
MOST_BYTES = 16 * 1024 * 1024  # of an answer that is kept
RETRY = timedelta(seconds=2)
PAUSES = (timedelta(milliseconds=100), timedelta(milliseconds=500))  # before an answer is tried to be kept again
POLL = timedelta(milliseconds=200)
POLL_SLOWEST = timedelta(seconds=2)
FORGETTING = timedelta(minutes=1)
NOT_KEPT = KeptAnswer(0, b"", b"")

log = structlog.get_logger()


def carries_key(scope: Scope) -> bool:
    """Whether a request wants this. Only what changes or costs something needs it."""
    return scope["method"] == "POST" and any(name == HEADER for name, _ in scope["headers"])


class Idempotent:
    """Runs requests through `application`."""

    def __init__(self, gateway: Gateway, store: Store) -> None:
        self._gateway = gateway
        self._store = store
        self._joins = Joins()

    async def run(self, application: Application, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from what is kept, join what runs, or run it."""
        client = Client(scope, receive, send)
        try:
            key = _key(client)
            try:
                caller = await self._gateway.callers.in_tenant(client.header, clock.now())
            except (InvalidApiKey, PermissionDenied):
                # The application says it in the words of its own API. An operator who is no tenant's goes on without.
                await application(scope, receive, send)
                return
            body = await client.read_body(self._gateway.max_body_bytes)
            request = Request.of(caller, key, scope["path"], body)
            claim = await self._settled_claim(request, scope, client)
            if claim == NOT_KEPT:
                raise _not_kept(scope)
        except ClientLeft:
            return
        except StudioError as error:
            await client.answer(error.status, envelope.headers_of(error), _refusal(application, error, scope))
            return
        if isinstance(claim, KeptAnswer):
            headers = [(b"content-type", claim.content_type), (b"idempotent-replayed", b"true")]
            await client.answer(claim.status, headers, claim.body)
            return
        scope["studio.request_id"] = claim.request_id
        await self._run(application, scope, body, send, Run(self._store, request, claim))

    async def _settled_claim(self, request: Request, scope: Scope, client: Client) -> Mine | KeptAnswer:
        claim = await self._claim(request, scope)
        if not isinstance(claim, Running):
            return claim
        gone = asyncio.Event()
        pause = POLL
        client.watch(gone.set)
        try:
            with self._joins.one_more(request.caller.tenant_id):
                while isinstance(claim, Running):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(gone.wait(), pause.total_seconds())
                        raise ClientLeft
                    pause = min(pause * 1.5, POLL_SLOWEST)  # many may wait for one long answer
                    claim = await self._claim(request, scope)
                return claim
        finally:
            client.stop_watching()

    async def _claim(self, request: Request, scope: Scope) -> Mine | KeptAnswer | Running:
        try:
            claim = await asyncio.to_thread(self._store.claim, request, scope["studio.request_id"])
        except SQLAlchemyError as error:
            log.warning("idempotency_unknown", error=type(error).__name__)
            raise ServiceUnavailable(
                "Whether this Idempotency-Key was used cannot be known at the moment, so nothing was started.",
                retry_after=RETRY,
            ) from error
        except Unreadable as error:
            raise Conflict(
                "The answer that is kept for this Idempotency-Key cannot be read any more: the secret of this"
                " installation has changed. It was billed; use a new key to run and pay it again.",
                code="idempotent_answer_not_kept",
            ) from error
        if isinstance(claim, OtherRequest):
            raise Conflict(
                "This Idempotency-Key was used for another request in the last 24 hours. Use a new key for a"
                " new request, or send the same body again.",
                code="idempotency_key_reused",
            )
        return claim

    async def _run(self, application: Application, scope: Scope, body: bytes, send: Send, run: Run) -> None:
        recorder = _Recorder(run, scope, send)
        renewal = asyncio.create_task(run.renew())
        try:
            await application(scope, _whole_body(body), recorder.send)
        finally:
            renewal.cancel()
            if not recorder.is_settled:
                await asyncio.shield(run.settle(None))


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a request under its claim."""

    store: Store
    request: Request
    mine: Mine

    async def settle(self, answer: KeptAnswer | None) -> bool:
        """Keep an answer, or give the key up. False when that was not possible: then the lease runs out."""
        try:
            if answer is None:
                await asyncio.to_thread(self.store.give_up, self.request, self.mine)
            elif not await asyncio.to_thread(self.store.keep, self.request, self.mine, answer):
                log.warning("idempotency_claim_lost", request=str(self.mine.request_id))
        except SQLAlchemyError as error:
            log.warning("idempotent_answer_not_kept", error=type(error).__name__)
            return False
        return True

    async def renew(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            try:
                await asyncio.to_thread(self.store.renew, self.request, self.mine)
            except SQLAlchemyError as error:
                log.warning("idempotency_lease_not_renewed", error=type(error).__name__)


async def forget_expired(store: Store) -> None:
    """For ever: what is kept goes when its time is over."""
    while True:
        try:
            await asyncio.to_thread(store.forget_expired)
        except SQLAlchemyError as error:
            log.warning("expired_answers_not_forgotten", error=type(error).__name__)
        await asyncio.sleep(FORGETTING.total_seconds())


@dataclass(slots=True)
class _Recorder:
    """Passes an answer on, and keeps it before its last byte leaves."""

    run: Run
    scope: Scope
    downstream: Send
    is_settled: bool = False
    _status: int = 0
    _content_type: bytes = b""
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._content_type = next((v for name, v in message["headers"] if name.lower() == b"content-type"), b"")
        elif message["type"] == "http.response.body":
            part = message.get("body", b"")
            self._size += len(part)
            if self._can_be_kept():
                self._parts.append(part)
            else:
                self._parts.clear()
            if not message.get("more_body"):
                await self._settle()
        await self.downstream(message)

    async def _settle(self) -> None:
        """Before the last byte, so that whoever has read it may send the next request with the key.

        A good answer that cannot be kept was billed all the same, so its key is not given up: when the lease has run
        out a repetition runs under the same id, the two events quarantine each other, and nobody pays twice.
        """
        self.is_settled = True
        if not self._is_good():
            await self.run.settle(None)
            return
        answer = KeptAnswer(self._status, self._content_type, b"".join(self._parts))
        for pause in (*PAUSES, None):
            if await self.run.settle(answer if self._can_be_kept() else NOT_KEPT) or pause is None:
                return
            await asyncio.sleep(pause.total_seconds())

    def _can_be_kept(self) -> bool:
        return self._size <= MOST_BYTES and not _is_secret(self.scope)

    def _is_good(self) -> bool:
        return 200 <= self._status < 300 and "studio.broke_off" not in self.scope


def _is_secret(scope: Scope) -> bool:
    """Whether an answer holds the text of an API key, of which nobody keeps more than a hash."""
    path: str = scope["path"]
    return path.endswith("/keys")


def _not_kept(scope: Scope) -> Conflict:
    if _is_secret(scope):
        return Conflict(
            "The request with this Idempotency-Key has created its API key already, whose text was in that answer and"
            " is kept nowhere. If it is lost, revoke the key and make another under a new Idempotency-Key.",
            code="idempotent_answer_not_kept",
        )
    return Conflict(
        "The request with this Idempotency-Key was answered and billed already, and its answer is too large to be kept"
        f" (above {MOST_BYTES:,} bytes). Use a new Idempotency-Key to run and pay it again.",
        code="idempotent_answer_too_large",
    )


def _refusal(application: Application, error: StudioError, scope: Scope) -> bytes:
    """In the words of the API that was asked."""
    if isinstance(application, TokenEndpoint):
        return application.refusal(error, scope["studio.request_id"])
    return envelope.body_of(error)


def _whole_body(body: bytes) -> Receive:
    """A client that has sent everything and never leaves: what it began is finished, so that it can be repeated."""
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _key(client: Client) -> str:
    key = client.header(HEADER) or ""
    if not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"`Idempotency-Key` must have 1 to {KEY_LENGTH} printable ASCII characters.", param="Idempotency-Key"
        )
    if (client.header(b"content-type") or "").startswith("multipart/"):
        raise InvalidRequest("`Idempotency-Key` is not supported for uploads. Leave it out.", param="Idempotency-Key")
    return key
