"""Which limits meet a request: a snapshot of the table `limits`, looked up by key and model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

# The three rates of a rule, in the order of its ceilings, and over how many milliseconds each counts.
KINDS: Final = ("requests_per_second", "requests_per_minute", "tokens_per_minute", "concurrent_requests")
PERIODS_MS: Final = (1_000, 60_000, 60_000)
TOKENS: Final = 2
CONCURRENT: Final = 3


@dataclass(frozen=True)  # without slots: what is derived is kept
class Rule:
    """One row: whose it is and the most of each kind, 0 where it does not limit."""

    id: UUID
    tenant_id: UUID
    api_key_id: UUID | None
    variant_id: str | None
    ceilings: tuple[int, int, int, int]  # in the order of KINDS

    @cached_property
    def whose(self) -> str:
        """In words for the caller."""
        whose = "this organization" if self.api_key_id is None else "this API key"
        return whose if self.variant_id is None else f"{whose} with the model `{self.variant_id}`"

    @cached_property
    def level_key(self) -> str:
        """Where Valkey keeps how full the rates are. The braces keep a tenant's keys on one node of a cluster."""
        return f"studio:{{{self.tenant_id.hex}}}:limit:{self.id.hex}"

    @cached_property
    def running_key(self) -> str:
        """Where Valkey keeps which requests run."""
        return f"{self.level_key}:running"

    @property
    def awaits_the_end(self) -> bool:
        """Whether it matters when a request ends and what it took."""
        return self.ceilings[TOKENS] > 0 or self.ceilings[CONCURRENT] > 0

    def shared_among(self, gateways: int) -> Rule:
        """The local share of one of so many gateways: never nothing, or a limit of 1 would close the house."""
        if gateways <= 1:
            return self
        second, minute, tokens, concurrent = (max(1, most // gateways) if most else 0 for most in self.ceilings)
        return replace(self, ceilings=(second, minute, tokens, concurrent))


class RuleBook:
    """Every rule of every tenant."""

    channel = "studio_limits"
    poll_interval = timedelta(seconds=30)

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._replace(rules)

    async def refresh(self, connection: AsyncConnection) -> None:
        """Replace the snapshot whole."""
        cursor = await connection.execute(
            "select id, tenant_id, api_key_id, variant_id, requests_per_second, requests_per_minute, tokens_per_minute,"
            " concurrent_requests from limit_snapshot() order by id"
        )
        self._replace(
            [
                Rule(id, tenant_id, api_key_id, variant_id, (second or 0, minute or 0, tokens or 0, concurrent or 0))
                async for id, tenant_id, api_key_id, variant_id, second, minute, tokens, concurrent in cursor
            ]
        )

    def rules_for(self, tenant_id: UUID, api_key_id: UUID, variant_id: str) -> tuple[Rule, ...]:
        """What a request of this key to this model must keep to; mostly nothing."""
        of_tenant = self._by_tenant.get(tenant_id)
        if of_tenant is None:
            return ()
        found = self._found.get((api_key_id, variant_id))
        if found is None:
            found = tuple(
                rule
                for rule in of_tenant
                if rule.api_key_id in (None, api_key_id) and rule.variant_id in (None, variant_id)
            )
            self._found[api_key_id, variant_id] = found
        return found

    def rules_of(self, tenant_id: UUID, api_key_id: UUID) -> tuple[Rule, ...]:
        """What a key meets, whatever model it asks."""
        return tuple(rule for rule in self._by_tenant.get(tenant_id, ()) if rule.api_key_id in (None, api_key_id))

    def _replace(self, rules: Iterable[Rule]) -> None:
        self._by_tenant: dict[UUID, list[Rule]] = {}
        for rule in rules:
            self._by_tenant.setdefault(rule.tenant_id, []).append(rule)
        self._found: dict[tuple[UUID, str], tuple[Rule, ...]] = {}  # looked up before; new with every snapshot
