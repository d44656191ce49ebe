"""What visitors may take: tokens of a day for all of them, requests of an hour for each address, over all gateways.

A gateway that has no Valkey is alone and counts by itself. One whose Valkey is away gives nothing: what nobody counts
could be any amount. Tokens are counted before, at the most that they can become, so the day's figure is never exceeded.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from serving.limits.connection import Connection, ValkeyAway
from serving.limits.shared import Script
from studio.errors import RateLimited, ServiceUnavailable

VISIT = timedelta(hours=1)
_DAY = timedelta(days=1)
_TAKE = Script(Path(__file__).parent / "take.lua")


class DayIsSpent(RateLimited):
    """Visitors have taken what there is for today."""

    default_code = "try_it_day_spent"


class VisitorIsDone(RateLimited):
    """This address has asked often enough for now."""

    default_code = "try_it_visitor_limit"


class Allowance:
    """One per process."""

    def __init__(self, valkey_url: str | None, secret: bytes, tokens_per_day: int, requests_per_visitor: int) -> None:
        self._valkey_url = valkey_url
        self._secret = secret
        self._tokens_per_day = tokens_per_day
        self._requests_per_visitor = requests_per_visitor
        self._connection: Connection | None = None
        self._day = ""
        self._tokens = 0
        self._visits: defaultdict[str, list[datetime]] = defaultdict(list)

    async def take(self, address: str, tokens: int, now: datetime) -> None:
        """Count a request. DayIsSpent or VisitorIsDone, then nothing is counted."""
        visitor = self._named(address)
        if self._valkey_url is None:
            self._take_alone(visitor, tokens, now)
            return
        keys = (self._day_key(now), f"studio:try-it:visitor:{visitor}")
        words = (tokens, self._tokens_per_day, self._requests_per_visitor, 2 * 86_400, int(VISIT.total_seconds()))
        try:
            connection = await self._connected()
            said, seconds = await connection.call("EVALSHA", _TAKE.hash, 2, *keys, *words)
        except (ValkeyAway, OSError, TimeoutError) as error:
            raise ServiceUnavailable(
                "The try-it box cannot count at the moment.", retry_after=timedelta(seconds=5)
            ) from error
        if said == b"day":
            raise _day_is_spent(now)
        if said == b"visitor":
            raise VisitorIsDone("questions of one visitor", timedelta(seconds=int(seconds)))

    def give_back(self, tokens: int, now: datetime) -> None:
        """Nothing was answered, so it costs nothing."""
        if self._valkey_url is None:
            self._tokens = max(0, self._tokens - tokens)
        elif self._connection is not None:
            with suppress(ValkeyAway):
                self._connection.tell("DECRBY", self._day_key(now), tokens)

    def close(self) -> None:
        """The gateway ends."""
        if self._connection is not None:
            self._connection.close()

    async def _connected(self) -> Connection:
        assert self._valkey_url is not None
        if self._connection is None or self._connection.lost.done():
            connection = await Connection.open(self._valkey_url)
            await connection.call("SCRIPT", "LOAD", _TAKE.source)
            self._connection = connection
        return self._connection

    def _take_alone(self, visitor: str, tokens: int, now: datetime) -> None:
        day = f"{now:%Y-%m-%d}"
        if day != self._day:
            self._day, self._tokens = day, 0
            self._visits.clear()
        if self._tokens + tokens > self._tokens_per_day:
            raise _day_is_spent(now)
        lately = [at for at in self._visits[visitor] if now - at < VISIT]
        if len(lately) >= self._requests_per_visitor:
            raise VisitorIsDone("questions of one visitor", lately[0] + VISIT - now)
        self._visits[visitor] = [*lately, now]
        self._tokens += tokens

    def _day_key(self, now: datetime) -> str:
        return f"studio:try-it:tokens:{now:%Y-%m-%d}"

    def _named(self, address: str) -> str:
        """Of an address only an HMAC is kept, for an hour. A visitor has a whole /64 of IPv6, so that is one."""
        with suppress(ValueError):
            parsed = ipaddress.ip_address(address)
            if parsed.version == 6:
                address = str(ipaddress.ip_network((parsed, 64), strict=False))
        return hmac.digest(self._secret, b"try-it visitor " + address.encode(), hashlib.sha256).hex()[:32]


def _day_is_spent(now: datetime) -> DayIsSpent:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    return DayIsSpent("today's tokens of all visitors", midnight - now)


def visitor_address(peer: str, forwarded: str | None, proxies: int) -> str:
    """Who asks: the address that our outermost proxy has seen. What stands left of it anybody may have written."""
    if proxies == 0 or forwarded is None:
        return peer
    seen = [part.strip() for part in forwarded.split(",")]
    return seen[-min(proxies, len(seen))]
