"""What the gateway knows of catalog and fleet: a snapshot in process, read again on every change.

Which replica a request goes to is `serving/routing.py`. The snapshot keeps serving when the database is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from statistics import median
from typing import Literal, LiteralString, TypeVar
from uuid import UUID

import structlog
from psycopg import AsyncConnection
from psycopg.rows import AsyncRowFactory, class_row, tuple_row

from serving.fleet import engine_keys
from serving.fleet.desired import Override, SiteVariant
from serving.fleet.hours import Hours, assemble
from studio import clock
from studio.hours_clock import is_movable
from studio.sealing import Seal, Unreadable

UNMEASURED_WARMUP = timedelta(seconds=60)  # expected of a variant that has never been warm here

Row = TypeVar("Row")

log = structlog.get_logger()

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
    takes_adapters: bool  # its engine loads adapters, so it can be fine-tuned
    sunset_on: date | None
    notice: str | None
    listed_at: datetime
    # Of the variant whose replicas answer:
    desired_replicas: int
    site_replicas: int
    closed_replicas: int
    calendar_id: str | None
    warmup_seconds: list[Decimal]  # the last few
    vision: bool = False  # whether its model reads images
    first_token_target_ms: int | None = None  # promised; what misses it pays the base price
    first_token_target_prompt_tokens: int | None = None  # for prompts of at most so many; None: all
    warmup_stages: list[list[Decimal]] = field(default_factory=list)  # of the same: weights, start, first answer, s
    desired_since: datetime | None = None  # when its number of replicas, or the reason for it, was decided
    runs: str = ""  # weights, flags and environment of the engine: another text, other answers

    @property
    def replicas_of(self) -> str:
        """The variant whose replicas answer."""
        return self.served_by or self.id

    @property
    def engine_loads_adapters(self) -> bool:
        """Whether the engine that answers was started for adapters, also where this tier takes none itself."""
        return '"--enable-lora"' in self.runs

    @property
    def expected_warmup(self) -> timedelta:
        """From the decision to start a replica to its first answer."""
        if not self.warmup_seconds:
            return UNMEASURED_WARMUP
        return timedelta(seconds=float(median(self.warmup_seconds)))

    @property
    def usual_stages(self) -> tuple[float, float, float] | None:
        """Seconds that fetching weights, starting the engine and its first answer take; None: not measured."""
        if not self.warmup_stages:
            return None
        weights, start, answer = (float(median(stage)) for stage in zip(*self.warmup_stages, strict=True))
        return weights, start, answer

    @property
    def running(self) -> SiteVariant:
        """The variant whose replicas answer, as its hours see it."""
        return SiteVariant(
            id=self.replicas_of,
            deployed=self.deployed,
            site_replicas=self.site_replicas,
            closed_replicas=self.closed_replicas,
            calendar_id=self.calendar_id,
        )


@dataclass(frozen=True, slots=True)
class Replica:
    """An engine that runs, starts or drains."""

    id: UUID
    variant_id: str
    state: ReplicaState
    url: str
    engine_model: str
    created_at: datetime
    ready_at: datetime | None = None
    max_num_seqs: int | None = None  # requests that it runs at once; None: an attached engine that did not say
    needs_key: bool = False
    is_attached: bool = False  # somebody else runs it
    authorization: str | None = field(default=None, repr=False)  # the header's value, of one that needs a key


@dataclass(frozen=True, slots=True)
class Adapter:
    """A tenant's fine-tuned model: weights on top of a variant, which sets its price and its limits."""

    id: UUID
    tenant_id: UUID
    variant_id: str
    name: str  # what its tenant writes into `model`
    engine_name: str  # what engines call it
    created_at: datetime
    replicas: list[UUID]  # that have loaded it


@dataclass(frozen=True, slots=True)
class Price:
    """Valid now. Shown, and reserved with by `serving/budgets`: what is billed is computed from the tables."""

    variant_id: str
    unit: str
    currency: str
    per_million: Decimal


@dataclass(frozen=True, slots=True)
class Pods:
    """A variant's pods in a cluster, as our driver saw them at their last change (`studio/cluster/scaling.py`)."""

    variant_id: str
    outcome: str
    trouble: str | None
    unready_since: datetime | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """One consistent reading."""

    variants: Mapping[str, Variant] = field(default_factory=dict)
    replicas: Mapping[str, tuple[Replica, ...]] = field(default_factory=dict)  # by the variant that they run
    prices: Mapping[str, tuple[Price, ...]] = field(default_factory=dict)
    own_prices: Mapping[tuple[UUID, str], tuple[Price, ...]] = field(default_factory=dict)  # by tenant and variant
    adapters: Mapping[str, Adapter] = field(default_factory=dict)  # by name, of all tenants
    hours: Hours = field(default_factory=Hours)
    pods: Mapping[str, Pods] = field(default_factory=dict)  # by variant, of those that our driver scales
    away_since: datetime | None = None  # the cluster's API server does not answer our driver
    read_at: datetime | None = None

    def prices_for(self, tenant_id: UUID, variant_id: str) -> tuple[Price, ...]:
        """What a tenant pays for a variant: its own prices, and the list's for all else."""
        listed = self.prices.get(variant_id, ())
        own = self.own_prices.get((tenant_id, variant_id))
        if own is None:
            return listed
        replaced = {(price.unit, price.currency) for price in own}
        return own + tuple(price for price in listed if (price.unit, price.currency) not in replaced)

    def seconds_ready(self, replica: Replica) -> float | None:
        """For how long a replica had been ready at the time of this reading."""
        if self.read_at is None or replica.ready_at is None:
            return None
        return (self.read_at - replica.ready_at).total_seconds()

    def adapters_of(self, tenant_id: UUID) -> list[Adapter]:
        """A tenant's own, oldest first, as long as their base is in the catalog. Nobody else may learn of them."""
        return [
            adapter
            for adapter in self.adapters.values()
            if adapter.tenant_id == tenant_id and adapter.variant_id in self.variants
        ]

    def replicas_for(self, variant: Variant) -> tuple[Replica, ...]:
        """All that answer for the variant or will."""
        return self.replicas.get(variant.replicas_of, ())

    def opens_at(self, variant: Variant, now: datetime) -> datetime | None:
        """When a closed variant opens, on the clock of opening hours and in their zone. None: open, or never."""
        hours_now = now + self.hours.offset
        if not variant.deployed or self.hours.decide(variant.running, hours_now).is_open:
            return None
        opens_at = self.hours.opens_at(variant.running, hours_now)
        return None if opens_at is None else opens_at.astimezone(self.hours.zone_of(variant.running))

    def closes_at(self, variant: Variant, now: datetime) -> datetime | None:
        """When an open variant closes, on the same clock. None: closed, or not known to close."""
        hours_now = now + self.hours.offset
        if not variant.deployed or not self.hours.decide(variant.running, hours_now).is_open:
            return None
        closes_at = self.hours.closes_at(variant.running, hours_now)
        return None if closes_at is None else closes_at.astimezone(self.hours.zone_of(variant.running))


class FleetView:
    """The latest reading. A request takes `fleet` once and works with that."""

    channel = "studio_fleet"
    poll_interval = timedelta(seconds=2)  # prices begin and end without anybody announcing it

    def __init__(self, seal: Seal | None = None) -> None:
        """Without a seal, engines that ask for a key are left out: only who holds the secret can use them."""
        self.fleet = Fleet()
        self._seal = seal
        self._unreadable: set[UUID] = set()
        self._next = asyncio.Event()

    async def next(self) -> Fleet:
        """The next reading. All who wait for it are woken by it; nobody polls."""
        await self._next.wait()
        return self.fleet

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read all tables in one transaction, so that they fit together."""
        async with connection.transaction():
            await connection.execute("set transaction isolation level repeatable read read only")
            variants = await _rows(connection, class_row(Variant), _VARIANTS)
            replicas = await self._replicas(connection)
            prices = await _rows(connection, class_row(Price), _PRICES)
            own_prices = await _rows(connection, tuple_row, _OWN_PRICES)
            adapters = await _rows(connection, class_row(Adapter), _ADAPTERS)
            hours = await _hours(connection)
            pods = await _rows(connection, class_row(Pods), _PODS)
            contact = await _rows(connection, tuple_row, "select away_since from cluster_contact")
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
            own_prices={
                key: tuple(Price(*row[1:]) for row in rows)
                for key, rows in groupby(own_prices, key=lambda row: (row[0], row[1]))
            },
            adapters={adapter.name: adapter for adapter in adapters},
            hours=hours,
            pods={one.variant_id: one for one in pods},
            away_since=contact[0][0] if contact else None,
            read_at=clock.now(),
        )
        self._next.set()
        self._next = asyncio.Event()

    async def _replicas(self, connection: AsyncConnection) -> list[Replica]:
        replicas = await _rows(connection, class_row(Replica), _REPLICAS)
        if not any(replica.needs_key for replica in replicas):
            return replicas
        headers = {} if self._seal is None else self._opened(self._seal, await _rows(connection, tuple_row, _KEYS))
        return [
            replace(replica, authorization=headers.get(replica.id))
            for replica in replicas
            if not replica.needs_key or replica.id in headers
        ]

    def _opened(self, seal: Seal, rows: list[tuple[UUID, bytes]]) -> dict[UUID, str]:
        headers: dict[UUID, str] = {}
        for replica_id, sealed in rows:
            try:
                headers[replica_id] = engine_keys.open_header(seal, replica_id, sealed)
            except Unreadable as error:
                if replica_id not in self._unreadable:
                    log.error("engine_key_unreadable", replica=str(replica_id), error=str(error))
                    self._unreadable.add(replica_id)
        return headers


async def _rows(
    connection: AsyncConnection, rows: AsyncRowFactory[Row], query: LiteralString, *parameters: object
) -> list[Row]:
    async with connection.cursor(row_factory=rows) as cursor:
        await cursor.execute(query, parameters or None)
        return await cursor.fetchall()


async def _hours(connection: AsyncConnection) -> Hours:
    offsets = await _rows(connection, tuple_row, 'select "offset" from clock_offset') if is_movable() else []
    offset = sum((ahead for (ahead,) in offsets), timedelta(0))
    return assemble(
        calendars=await _rows(connection, tuple_row, "select id, time_zone, prewarm_minutes from calendars"),
        spans=await _rows(connection, tuple_row, "select calendar_id, weekday, opens, closes from opening_hours"),
        holidays=await _rows(connection, tuple_row, "select calendar_id, day, name from holidays"),
        overrides=await _rows(connection, class_row(Override), _OVERRIDES, clock.now() + offset),
        offset=offset,
    )


_VARIANTS = """
    select v.id, v.model_id, m.name, m.publisher, m.task, v.tier, m.licence, m.licence_url, v.context_tokens,
           v.max_output_tokens, v.deployed, v.served_by,
           v.engine_flags ? '--enable-lora' as takes_adapters, m.sunset_on, m.notice, m.listed_at, m.vision,
           v.first_token_target_ms, v.first_token_target_prompt_tokens,
           concat_ws(' ', a.weights_id, a.engine_flags, a.engine_env) as runs,
           coalesce(d.replicas, 0) as desired_replicas, d.decided_at as desired_since,
           a.site_replicas, a.closed_replicas, a.calendar_id,
           array(select seconds from (
                     select w.weights_seconds + w.start_seconds + w.first_token_seconds as seconds, w.ready_at
                     from warmups w where w.variant_id = a.id
                     union all
                     select extract(epoch from s.ready_at - s.started_at), s.ready_at
                     from engine_starts s where s.variant_id = a.id) starts
                 order by ready_at desc limit 5) as warmup_seconds,
           array(select array[w.weights_seconds, w.start_seconds, w.first_token_seconds] from warmups w
                 where w.variant_id = a.id order by w.ready_at desc limit 5) as warmup_stages
    from model_variants v
    join models m on m.id = v.model_id
    join model_variants a on a.id = coalesce(v.served_by, v.id)
    left join desired_replicas d on d.variant_id = a.id
    where v.retired_at is null and m.retired_at is null
    order by m.listed_at, v.id
"""
_REPLICAS = """
    select r.id, r.variant_id, r.state, r.url, r.engine_model, r.created_at, r.ready_at,
           case r.kind when 'process' then v.max_num_seqs else r.max_num_seqs end as max_num_seqs, r.needs_key,
           r.kind = 'attached' as is_attached
    from replicas r join model_variants v on v.id = r.variant_id
    where r.state in ('starting', 'ready', 'draining')
    order by r.created_at
"""
_PODS = "select variant_id, outcome, trouble, unready_since from engine_pods"
_KEYS = "select replica_id, sealed from engine_keys"
_OVERRIDES = """
    select id, variant_id, starts_at, ends_at, replicas, reason, created_by, created_at from hours_overrides
    where ends_at is null or ends_at > %s
"""
_PRICES = """
    select variant_id, unit, currency, per_million from prices
    where tenant_id is null and valid_from <= now() and (valid_until is null or valid_until > now())
    order by variant_id, currency, unit
"""
_OWN_PRICES = "select tenant_id, variant_id, unit, currency, per_million from own_prices()"
_ADAPTERS = """
    select id, tenant_id, variant_id, name, engine_name, created_at, replicas from served_adapters()
    order by created_at
"""
