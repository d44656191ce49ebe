"""Buckets that all gateways share, in Valkey: one script call decides. Who keeps them while it is away is `limiter.py`.

A request that runs is named in Valkey for `LEASE`, and again at every announcement of its gateway; what a killed
gateway was answering is given up when the lease ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog

from serving.limits.buckets import Reading
from serving.limits.connection import Connection, ValkeyAway, Word
from serving.limits.rules import Rule

RECONNECT_AFTER = timedelta(milliseconds=500)
ANNOUNCE_EVERY = timedelta(seconds=3)
LEASE = timedelta(seconds=15)  # several announcements may be late before a living gateway's requests are given up
EXPLANATIONS_PER_TENANT = 1_000
EXPLAINED_FOR = timedelta(hours=24)
_GATEWAYS = "studio:gateways"
_NAMES_AT_ONCE = 500  # of running requests in one call; Valkey does nothing else meanwhile

log = structlog.get_logger()


class Script:
    """One that Valkey runs, by its hash."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_bytes()
        self.hash = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


BUCKET, _ANNOUNCE, _REMEMBER = (
    Script(Path(__file__).parent / name) for name in ("bucket.lua", "gateways.lua", "remember.lua")
)


class SharedBuckets:
    """Every call returns None, or does nothing, while Valkey is away. `run` keeps the connection."""

    def __init__(self, url: str, gateway_id: UUID, running: Mapping[str, set[str]]) -> None:
        self._url = url
        self._gateway_id = gateway_id.hex
        self._running = running  # by `running_key`: what this gateway is answering
        self._connection: Connection | None = None
        self.gateways = 1  # that lived when Valkey was last asked

    @property
    def is_connected(self) -> bool:
        """Whether limits hold across gateways at this moment."""
        return self._live is not None

    @property
    def _live(self) -> Connection | None:
        connection = self._connection
        return None if connection is None or connection.lost.done() else connection

    async def run(self) -> None:
        """Connect, announce, connect again; for ever, until cancelled."""
        is_reported = False
        while True:
            try:
                async with self._connected() as connection:
                    log.info("limits_are_shared", gateways=self.gateways)
                    is_reported = False
                    await self._keep_announcing(connection)
            except (ValkeyAway, OSError) as error:
                if not is_reported:
                    log.warning("limits_are_local", share_of=self.gateways, error=str(error))
                    is_reported = True
            await asyncio.sleep(RECONNECT_AFTER.total_seconds())

    async def close(self) -> None:
        """Say that this gateway is gone."""
        if (connection := self._live) is not None:
            with contextlib.suppress(ValkeyAway):
                await connection.call("ZREM", _GATEWAYS, self._gateway_id)

    async def take(self, rules: Sequence[Rule], request: str, tokens: int) -> Reading | None:
        """Count a request under all rules or under none."""
        return await self._ask("take", rules, request, 1, tokens)

    async def look(self, rules: Sequence[Rule]) -> Reading | None:
        """As they are."""
        return await self._ask("look", rules, "", 0, 0)

    def end(self, rules: Sequence[Rule], request: str, tokens: int, drained_at_ms: Sequence[int]) -> None:
        """A request is answered; it took `tokens` more, or less, than it reserved. Nobody waits for this."""
        if (connection := self._live) is not None:
            connection.tell(*bucket_call("end", rules, request, 0, tokens, drained_at_ms))

    def remember(self, tenant_id: UUID, request: str, explanation: bytes) -> bool:
        """Keep why a request was refused."""
        if (connection := self._live) is None:
            return False
        key = _explanations(tenant_id)
        kept_for = int(EXPLAINED_FOR.total_seconds())
        connection.tell(
            "EVALSHA", _REMEMBER.hash, 2, key, f"{key}:order", request, explanation, EXPLANATIONS_PER_TENANT, kept_for
        )
        return True

    async def recall(self, tenant_id: UUID, request: str) -> bytes | None:
        """What was kept."""
        if (connection := self._live) is None:
            return None
        with contextlib.suppress(ValkeyAway):
            explanation: bytes | None = await connection.call("HGET", _explanations(tenant_id), request)
            return explanation
        return None

    async def _ask(self, act: str, rules: Sequence[Rule], request: str, requests: int, tokens: int) -> Reading | None:
        if (connection := self._live) is None:
            return None
        try:
            admitted, now_ms, *flat = await connection.call(
                *bucket_call(act, rules, request, requests, tokens, [0] * len(rules))
            )
        except ValkeyAway:
            # Also when it only refuses, being full or a replica: it does not count, so it is as good as away.
            self._connection = None
            connection.close()
            return None
        levels = [(flat[i], flat[i + 1], flat[i + 2], flat[i + 3]) for i in range(0, len(flat), 4)]
        return Reading(admitted == 1, now_ms, levels)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection = await Connection.open(self._url)
        try:
            for script in (BUCKET, _ANNOUNCE, _REMEMBER):
                await connection.call("SCRIPT", "LOAD", script.source)
            await self._announce(connection)  # proves that it takes what we write
            self._connection = connection
            yield connection
        finally:
            self._connection = None
            connection.close()

    async def _keep_announcing(self, connection: Connection) -> None:
        while True:
            await asyncio.wait((connection.lost,), timeout=ANNOUNCE_EVERY.total_seconds())
            await self._announce(connection)

    async def _announce(self, connection: Connection) -> None:
        lease_ms = LEASE // timedelta(milliseconds=1)
        who = (self._gateway_id, lease_ms, lease_ms)
        # All in one turn of the event loop: nothing ends between the look at what runs and its sending.
        for key, running in self._running.items():
            names = list(running)
            for start in range(0, len(names), _NAMES_AT_ONCE):
                connection.tell(
                    "EVALSHA", _ANNOUNCE.hash, 2, _GATEWAYS, key, *who, *names[start : start + _NAMES_AT_ONCE]
                )
        self.gateways = await connection.call("EVALSHA", _ANNOUNCE.hash, 1, _GATEWAYS, *who)


def bucket_call(
    act: str, rules: Sequence[Rule], request: str, requests: int, tokens: int, drained_at_ms: Sequence[int]
) -> list[Word]:
    """The call of `bucket.lua`."""
    words: list[Word] = ["EVALSHA", BUCKET.hash, 2 * len(rules)]
    for rule in rules:
        words += (rule.level_key, rule.running_key)
    words += (act, request, requests, tokens, LEASE // timedelta(milliseconds=1))
    for rule, drained_at in zip(rules, drained_at_ms, strict=True):
        words += (*rule.ceilings, drained_at)
    return words


def _explanations(tenant_id: UUID) -> str:
    return f"studio:{{{tenant_id.hex}}}:refusals"
