"""Delivery: at least once. A message is claimed for its next attempt before it is sent, so a process that dies sends it
again, with the same `webhook-id`. Receivers' addresses are held to the rules of images: public, pinned, no redirects.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
from sqlalchemy import Engine, insert, select, text, update
from yarl import URL

from serving.authorities import client_tls
from serving.images import fetching, rules
from serving.images.download import Pinned
from serving.images.fetching import Resolve
from serving.images.rules import Address
from serving.webhooks import signature
from studio import clock, ids
from studio.db.notices import WebhookAttempt, WebhookMessage
from studio.db.sessions import unit_of_work
from studio.sealing import Seal, Unreadable

PATIENCE = timedelta(seconds=10)
MOST_AT_ONCE = 100
# How long after each attempt the next one follows; after the last, the message is given up.
BACKOFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 300, 600, 600))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, for the log that the tenant sees. `status` None: the receiver was not reached, see `error`."""

    message: str
    n: int
    host: str
    status: int | None
    error: str | None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


class Sender:
    """Sends what is due. Tests give it a resolver, a rule and certificates of their own, as they do for images."""

    def __init__(
        self,
        database: Engine,
        seal: Seal,
        allowed_hosts: frozenset[str] = frozenset(),
        *,
        resolve: Resolve = fetching.resolve,
        is_allowed: Callable[[Address], bool] = rules.is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._database = database
        self._seal = seal
        self._allowed_hosts = allowed_hosts
        self._resolve = resolve
        self._is_allowed = is_allowed
        self._tls = tls or client_tls()

    def send_due(self) -> list[Attempt]:
        """Claim what is due, send it, write down what came of each."""
        with unit_of_work(self._database) as session:
            claimed = list(session.execute(_CLAIM, {"now": clock.now(), "most": MOST_AT_ONCE}).mappings())
        return asyncio.run(self._send_all(claimed)) if claimed else []

    async def _send_all(self, claimed: list[Any]) -> list[Attempt]:
        return list(await asyncio.gather(*(self._send(message) for message in claimed)))

    async def _send(self, message: Any) -> Attempt:
        status: int | None = None
        error: str | None = None
        host = ""
        try:
            url = rules.fit_url(message["url"], self._allowed_hosts)
            host = url.host or ""
            async with asyncio.timeout(PATIENCE.total_seconds()):
                status = await self._post(url, message)
        except rules.UnfitUrl as unfit:
            error = str(unfit)
        except Unreadable:
            error = "its secret was sealed with another key: rotate it"
        except TimeoutError:
            error = f"no answer within {PATIENCE.total_seconds():.0f} s"
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = f"not reached ({type(failure).__name__})"
        attempt = Attempt(ids.to_wire(ids.WEBHOOK_MESSAGE, message["id"]), message["attempts"], host, status, error)
        await asyncio.to_thread(self._record, message, attempt)
        return attempt

    async def _post(self, url: URL, message: Any) -> int:
        assert url.host is not None
        assert url.port is not None
        addresses = await self._resolve(url.host, url.port)
        if not addresses or not all(self._is_allowed(address) for address in addresses):
            raise rules.UnfitUrl("its host is not on the public internet")
        now, body = clock.now(), message["body"].encode()
        secrets = [self._open(message, message["secret"])]
        if message["previous_until"] is not None and now < message["previous_until"]:
            secrets.append(self._open(message, message["previous_secret"]))
        headers = signature.headers(secrets, ids.to_wire(ids.WEBHOOK_MESSAGE, message["id"]), now, body)
        connector = aiohttp.TCPConnector(
            resolver=Pinned(addresses), use_dns_cache=False, force_close=True, ssl=self._tls
        )
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            headers |= {"content-type": "application/json", "user-agent": "xpulink-studio-webhooks"}
            # What is answered is nobody's business but for the status: a redirect leads nowhere.
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status

    def _open(self, message: Any, sealed: bytes) -> str:
        return self._seal.open(message["tenant_id"], message["webhook_id"].bytes, sealed).decode()

    def _record(self, message: Any, attempt: Attempt) -> None:
        is_over = attempt.is_delivered or attempt.n > len(BACKOFF)
        values: dict[str, datetime | None] = {"delivered_at": clock.now()} if attempt.is_delivered else {}
        if is_over:
            values["next_attempt_at"] = None
        with unit_of_work(self._database) as session:
            session.execute(
                insert(WebhookAttempt).values(
                    message_id=message["id"], n=attempt.n, tenant_id=message["tenant_id"], at=clock.now(),
                    status=attempt.status, error=attempt.error,
                )
            )  # fmt: skip
            if values:
                session.execute(update(WebhookMessage).where(WebhookMessage.id == message["id"]).values(**values))


def due(database: Engine, now: datetime) -> list[UUID]:
    """Messages that wait for an attempt now."""
    is_due = WebhookMessage.next_attempt_at <= now
    with unit_of_work(database) as session:
        return list(session.scalars(select(WebhookMessage.id).where(is_due).order_by(WebhookMessage.id)))


# Also what a deleted webhook waits for is claimed once, and is over by that.
_CLAIM = text(f"""
    with claimed as (
        select m.id from webhook_messages m
        where m.next_attempt_at <= :now
        order by m.next_attempt_at limit :most
        for update skip locked
    ), taken as (
        update webhook_messages m
        set attempts = m.attempts + case when w.deleted_at is null then 1 else 0 end,
            next_attempt_at = case when w.deleted_at is null then cast(:now as timestamptz) + (
                array[{", ".join(f"interval '{int(pause.total_seconds())} s'" for pause in BACKOFF)}]
            )[least(m.attempts + 1, {len(BACKOFF)})] end
        from claimed c, webhooks w
        where m.id = c.id and w.id = m.webhook_id
        returning m.id, m.tenant_id, m.webhook_id, m.body, m.attempts, w.url, w.secret, w.previous_secret,
                  w.previous_until, w.deleted_at
    )
    select * from taken where deleted_at is null
""")  # noqa: S608  # of our own numbers
