"""What the gateway knows of catalog and fleet: a snapshot in process, read again on every change.

Which replica a request goes to is `serving/routing.py`. The snapshot keeps serving when the database is away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Literal, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import AsyncRowFactory, class_row

UNMEASURED_WARMUP = timedelta(seconds=60)  # expected of a variant that has never been warm here

Row = TypeVar("Row")

VariantState = Literal["warm", "starting", "cold", "not_deployed"]
ReplicaState = Literal["starting", "ready", "draining"]


@dataclass(frozen=True, slots=True)
class Variant:
    """What a caller names in `model`, with what its model says about itself."""

    id: str
    model_id: str
    name: str
    publisher: str
    task: Literal["chat", "completion", "embedding"]
    tier: Literal["base", "fast"]
    licence: str
    licence_url: str
    context_tokens: int
    max_output_tokens: int | None
    deployed: bool
    served_by: str | None  # the variant whose replicas answer for this one
    sunset_on: date | None
    notice: str | None
    listed_at: datetime
    desired_replicas: int  # of the variant whose replicas answer
    warmup_seconds: list[Decimal]  # the last few

    @property
    def replicas_of(self) -> str:
        """The variant whose replicas answer."""
        return self.served_by or self.id

    @property
    def expected_warmup(self) -> timedelta:
        """From the decision to start a replica to its first answer."""
        if not self.warmup_seconds:
            return UNMEASURED_WARMUP
        return timedelta(seconds=float(median(self.warmup_seconds)))


@dataclass(frozen=True, slots=True)
class Replica:
    """An engine that runs, starts or drains."""

    id: UUID
    variant_id: str
    state: ReplicaState
    url: str
    engine_model: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Price:
    """Valid now. Shown only: what a request costs is computed from the tables, never from here."""

    variant_id: str
    unit: str
    currency: str
    per_million: Decimal


@dataclass(frozen=True, slots=True)
class Fleet:
    """One consistent reading."""

    variants: Mapping[str, Variant] = field(default_factory=dict)
    replicas: Mapping[str, tuple[Replica, ...]] = field(default_factory=dict)  # by the variant that they run
    prices: Mapping[str, tuple[Price, ...]] = field(default_factory=dict)

    def replicas_for(self, variant: Variant) -> tuple[Replica, ...]:
        """All that answer for the variant or will."""
        return self.replicas.get(variant.replicas_of, ())

    def state(self, variant: Variant) -> VariantState:
        """In one word, for people."""
        states = {replica.state for replica in self.replicas_for(variant)}
        if "ready" in states:
            return "warm"
        if not variant.deployed and not states:
            return "not_deployed"
        return "starting" if "starting" in states or variant.desired_replicas > 0 else "cold"

    def ready_at(self, variant: Variant, now: datetime) -> datetime | None:
        """When a replica should answer; `now` if one does; None when none is on its way."""
        state = self.state(variant)
        if state == "warm":
            return now
        if state != "starting":
            return None
        started = [replica.created_at for replica in self.replicas_for(variant) if replica.state == "starting"]
        # A start that already takes longer than usual is still expected soon, not in the past.
        return max(min(started, default=now) + variant.expected_warmup, now + timedelta(seconds=1))


class FleetView:
    """The latest reading. A request takes `fleet` once and works with that."""

    channel = "studio_fleet"
    poll_interval = timedelta(seconds=2)  # prices begin and end without anybody announcing it

    def __init__(self) -> None:
        self.fleet = Fleet()

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read all three tables in one transaction, so that they fit together."""
        async with connection.transaction():
            await connection.execute("set transaction isolation level repeatable read read only")
            variants = await _rows(connection, class_row(Variant), _VARIANTS)
            replicas = await _rows(connection, class_row(Replica), _REPLICAS)
            prices = await _rows(connection, class_row(Price), _PRICES)
        self.fleet = Fleet(
            variants={variant.id: variant for variant in variants},
            replicas={
                variant_id: tuple(replica for replica in replicas if replica.variant_id == variant_id)
                for variant_id in {replica.variant_id for replica in replicas}
            },
            prices={
                variant_id: tuple(price for price in prices if price.variant_id == variant_id)
                for variant_id in {price.variant_id for price in prices}
            },
        )


async def _rows(connection: AsyncConnection, rows: AsyncRowFactory[Row], query: str) -> list[Row]:
    async with connection.cursor(row_factory=rows) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


_VARIANTS = """
    select v.id, v.model_id, m.name, m.publisher, m.task, v.tier, m.licence, m.licence_url, v.context_tokens,
           v.max_output_tokens, v.deployed, v.served_by, m.sunset_on, m.notice, m.listed_at,
           coalesce(d.replicas, 0) as desired_replicas,
           array(select w.weights_seconds + w.start_seconds + w.first_token_seconds from warmups w
                 where w.variant_id = coalesce(v.served_by, v.id) order by w.ready_at desc limit 5) as warmup_seconds
    from model_variants v
    join models m on m.id = v.model_id
    left join desired_replicas d on d.variant_id = coalesce(v.served_by, v.id)
    where v.retired_at is null and m.retired_at is null
    order by m.listed_at, v.id
"""
_REPLICAS = """
    select id, variant_id, state, url, engine_model, created_at from replicas
    where state in ('starting', 'ready', 'draining')
    order by created_at
"""
_PRICES = """
    select variant_id, unit, currency, per_million from prices
    where valid_from <= now() and (valid_until is null or valid_until > now())
    order by variant_id, currency, unit
"""
