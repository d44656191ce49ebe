"""What the token path calls: may this request go on, and what has it taken in the end.

Valkey decides where there is one; while it is away each gateway goes on with its share. A request without limits costs
a look-up and no call.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from serving.envelope import Headers
from serving.fleet.view import Variant
from serving.keys import KeyRecord
from serving.limits import readings
from serving.limits.buckets import Buckets, Reading
from serving.limits.estimate import likely_tokens
from serving.limits.rules import TOKENS, Rule, RuleBook
from serving.limits.shared import EXPLAINED_FOR, SharedBuckets
from serving.tokens.wire import Call
from studio import clock

LOCAL_EXPLANATIONS = 1_000  # kept in this process, of all tenants; the oldest go first


class Limiter:
    """The limits of one gateway process."""

    def __init__(self, rules: RuleBook, gateway_id: UUID, valkey_url: str | None) -> None:
        self._rules = rules
        self._local = Buckets()
        self._shared = SharedBuckets(valkey_url, gateway_id, self._local.running) if valkey_url else None
        self._explanations: OrderedDict[tuple[UUID, str], bytes] = OrderedDict()

    @property
    def state(self) -> str:
        """For `/health/ready`: limits hold across gateways, of a local share, or this gateway is alone."""
        if self._shared is None:
            return "alone"
        return "shared" if self._shared.is_connected else "local_share"

    async def run(self) -> None:
        """Keep the connection to Valkey, if there is one."""
        if self._shared is not None:
            await self._shared.run()

    async def close(self) -> None:
        """The gateway ends: its share falls to the others."""
        if self._shared is not None:
            await self._shared.close()

    async def admit(
        self, caller: KeyRecord, variant: Variant, call: Call, body_bytes: int, request: str
    ) -> Lease | None:
        """Count a request; its lease ends with it. None without limits; OverLimit over one of them."""
        rules = self._rules.rules_for(caller.tenant_id, caller.id, variant.id)
        if not rules:
            return None
        tokens = likely_tokens(call, variant, body_bytes) if any(rule.ceilings[TOKENS] for rule in rules) else 0
        shares: Sequence[Rule] | None = None
        reading = await self._shared.take(rules, request, tokens) if self._shared is not None else None
        if reading is None:
            shares, tokens = self._shares(rules, tokens)
            reading = self._local.take(shares, request, tokens, _now_ms())
        counted = rules if shares is None else shares
        if not reading.admitted:
            refusal = readings.refusal(counted, reading, tokens)
            self._remember(caller.tenant_id, request, variant, counted, reading, tokens, refusal.message)
            raise refusal
        if shares is None:
            self._local.begin(rules, request)
        headers = readings.headers(counted, reading)
        return Lease(self, rules, shares, request, tokens, _drained_at(counted, reading), headers)

    async def use(self, caller: KeyRecord) -> list[dict[str, Any]]:
        """The limits of a key and how much of each is used."""
        rules: Sequence[Rule] = self._rules.rules_of(caller.tenant_id, caller.id)
        reading = await self._shared.look(rules) if self._shared is not None and rules else None
        if reading is None:
            rules, _ = self._shares(rules, 0)
            reading = self._local.look(rules, _now_ms())
        return [readings.as_document(use) for use in readings.uses(rules, reading)]

    async def explanation(self, tenant_id: UUID, request: str) -> dict[str, Any] | None:
        """Why a request of this tenant was refused; None when it was not, or longer ago than is kept."""
        kept = await self._shared.recall(tenant_id, request) if self._shared is not None else None
        kept = kept or self._explanations.get((tenant_id, request))
        if kept is None:
            return None
        explanation: dict[str, Any] = orjson.loads(kept)
        return explanation if explanation["at"] >= (clock.now() - EXPLAINED_FOR).timestamp() else None

    def end(self, lease: Lease, tokens: int) -> None:
        """Give back, or add, what the truth differs from the reservation."""
        if not any(rule.awaits_the_end for rule in lease.rules):
            return
        change = tokens - lease.tokens
        self._local.finish(lease.rules, lease.request)
        if lease.shares is not None:
            self._local.correct(lease.shares, change, lease.drained_at_ms, _now_ms())
            change = 0  # Valkey did not count it, but may know by now that it runs
        if self._shared is not None:
            self._shared.end(lease.rules, lease.request, change, lease.drained_at_ms)

    def _shares(self, rules: Sequence[Rule], tokens: int) -> tuple[Sequence[Rule], int]:
        """What this gateway allows by itself. A request that fits the whole limit fits a share of it."""
        gateways = 1 if self._shared is None else self._shared.gateways
        if gateways == 1:
            return rules, tokens
        shares = [rule.shared_among(gateways) for rule in rules]
        whole = min((most for rule in rules if (most := rule.ceilings[TOKENS])), default=tokens)
        share = min((most for rule in shares if (most := rule.ceilings[TOKENS])), default=tokens)
        return shares, tokens if tokens > whole else min(tokens, share)

    def _remember(
        self,
        tenant_id: UUID,
        request: str,
        variant: Variant,
        rules: Sequence[Rule],
        reading: Reading,
        tokens: int,
        message: str,
    ) -> None:
        now = clock.now()
        limits = [
            readings.as_document(use) | {"exceeded": use.exceeded, "fits_in_ms": use.fits_in_ms}
            for use in readings.uses(rules, reading, tokens)
        ]
        explanation = orjson.dumps(
            {
                "request": request,
                "at": now.timestamp(),
                "model": variant.id,
                "estimated_tokens": tokens,
                "counted": self.state,
                "message": message,
                "limits": limits,
            }
        )
        if self._shared is None or not self._shared.remember(tenant_id, request, explanation):
            self._explanations[tenant_id, request] = explanation
            if len(self._explanations) > LOCAL_EXPLANATIONS:
                self._explanations.popitem(last=False)


@dataclass(slots=True)
class Lease:
    """What one admitted request holds. Ended once, before its last byte leaves, so that the caller's next request finds
    its place free; a second end does nothing."""

    limiter: Limiter
    rules: Sequence[Rule]
    shares: Sequence[Rule] | None  # what this gateway counted by itself; None: Valkey has counted
    request: str
    tokens: int  # reserved
    drained_at_ms: list[int]  # by rule: when the reservation has drained from its bucket
    headers: Headers
    has_ended: bool = field(default=False)

    def end(self, tokens: int) -> None:
        """With the tokens that it took, prompt and answer together; 0 when nothing ran."""
        if not self.has_ended:
            self.has_ended = True
            self.limiter.end(self, tokens)


def _drained_at(rules: Sequence[Rule], reading: Reading) -> list[int]:
    return [
        reading.now_ms + -(-levels[TOKENS] // most) if (most := rule.ceilings[TOKENS]) else 0
        for rule, levels in zip(rules, reading.levels, strict=True)
    ]


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
