"""Which replica takes a request: the one whose cache holds the beginning of its prompt, unless it is too busy.

Pure: a reading of the fleet, what this process has outstanding, and an instant in; a replica out. A choice costs a few
microseconds, and next to nothing where there is one replica.

A prompt's beginning is hashed onto a ring of replicas (consistent hashing with bounded loads, Mirrokni 2016),
so every gateway sends a conversation to the same place without talking to the others, and a replica that comes or goes
moves only its own share of them. A replica with more than BOUND times the mean of the outstanding work is passed over.
Whatever has no place on the ring, or finds its places busy, goes to the least outstanding work.

Known limit: a gateway process knows of its own requests only. That is enough for balance, since all see the same mix,
but the queue at which a request is refused is as many times longer as there are processes. What an engine's /metrics
says is waiting would not mend it: that counts the lines of batches too, which step aside for everybody, so a busy night
of batches would look like a full engine, and callers who would be served at once would be refused.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from math import inf
from typing import TypeVar
from uuid import UUID

import msgspec

from serving.fleet.view import Fleet, Replica
from serving.replica_health import Health
from serving.routing import Target

BOUND = 1.25  # of the mean; higher ones had more hits and, under load, a worse last percent (benchmarks/routing.py)
COMFORT = 8  # requests, or half a batch where that is less: so few slow nobody down, whatever the mean
PLACES = 3  # on the ring that are looked at, before the least busy replica takes the request
POINTS = 64  # of a replica on the ring: shares then differ by about an eighth, which BOUND evens out

# An engine runs `max_num_seqs` requests at once and lets others wait. With one more batch waiting a request waits about
# as long as an answer takes; beyond that it is kinder to say so at once. The fast tier goes to the head of an engine's
# queue, so the same length means less to it: where both share an engine, base is refused first.
BATCHES_HELD_MOST = {"base": 2, "fast": 3}

SLOW_START_SECONDS = 30.0  # an empty cache makes every prompt a long one: a new replica's share grows over this time
SLOW_START_SHARE = 0.1  # at its beginning

RATE_SECONDS = 30  # over which completions are counted
LONGEST_WAIT_SECONDS = 120.0  # that is promised: SDKs do not wait longer

PROMPT_BYTES_PER_UNIT = 32  # about eight tokens: a prompt is read in parallel, an answer is written token by token

Key = TypeVar("Key")


class Full(Exception):
    """Every replica that could answer has its batch and its queue full. A place should be free after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a place should be free in {seconds:.1f} s")
        self.seconds = seconds


class Work(msgspec.Struct, frozen=True):
    """What a choice needs to know of a request. `beginning` is asked for only where there is a choice."""

    tokens: int = 0  # that it may produce, as far as one can tell
    beginning: Callable[[], bytes | None] = lambda: None
    patient: bool = False  # nobody waits for its answer: it may queue at an engine however long


@dataclass(slots=True)
class Load:
    """What one replica has outstanding from this process."""

    requests: int = 0
    work: int = 0


@dataclass(slots=True)
class Place:
    """One request's place at a replica, from the choice to its end."""

    replica: Replica
    _pool: _Pool
    _work: int

    def leave(self, now: float, *, answered: bool) -> None:
        """The request has ended."""
        self._pool.leave(self.replica.id, self._work, now, answered=answered)


class Balancer:
    """What this process has outstanding at all engines, and what it knows of their health."""

    def __init__(self) -> None:
        self.health = Health()
        self._pools: dict[str, _Pool] = {}

    def choose(self, fleet: Fleet, target: Target, work: Work, tried: AbstractSet[UUID], now: float) -> Replica | None:
        """The replica to ask; None when none is left that was not tried. Full when all hold as much as they may."""
        pool = self._pool(fleet, target.variant.replicas_of, now)
        batches = inf if work.patient else BATCHES_HELD_MOST[target.variant.tier]
        if target.adapter is None and len(pool.replicas) == 1:
            only = pool.replicas[0]
            if only.id in tried:
                return None
            if pool.is_full(only, batches):
                raise Full(pool.promise(now))
            return only
        able = pool.replicas
        if tried or target.adapter is not None:
            having = None if target.adapter is None else target.adapter.replicas
            able = tuple(one for one in able if one.id not in tried and (having is None or one.id in having))
        avoided = self.health.avoided(now)
        fit = tuple(one for one in able if one.id not in avoided) if avoided else able
        if not fit:
            # All are ejected. Refusing would make an outage of what may be a bad moment: the one that is due first.
            fit = tuple(sorted(able, key=lambda one: self.health.due_at(one.id))[:1])
        if not fit:
            return None
        chosen = pool.choose(fit, work, batches, now)
        if chosen is None:
            raise Full(pool.promise(now))
        return chosen

    def take(self, fleet: Fleet, target: Target, replica: Replica, work: Work, body_bytes: int, now: float) -> Place:
        """Count a request that is now sent to a replica."""
        self.health.asked(replica.id, now)
        pool = self._pool(fleet, target.variant.replicas_of, now)
        weight = weigh(body_bytes, work.tokens)
        pool.take(replica.id, weight)
        return Place(replica, pool, weight)

    def answered(self, replica: Replica, now: float) -> bool:
        """A replica answered well. True if it had been ejected: its share then grows anew."""
        return self._is_back(replica, self.health.answered(replica.id), now)

    def probed(self, replica: Replica, now: float) -> bool:
        """A replica was probed and lives. True if that brings it back."""
        return self._is_back(replica, self.health.probed(replica.id), now)

    def requests_of(self, replica: Replica) -> int:
        """How many requests of ours a replica holds."""
        pool = self._pools.get(replica.variant_id)
        return 0 if pool is None else pool.load(replica.id).requests

    def _is_back(self, replica: Replica, is_back: bool, now: float) -> bool:
        if is_back and replica.variant_id in self._pools:
            self._pools[replica.variant_id].slow_start(replica.id, now)
        return is_back

    def _pool(self, fleet: Fleet, variant_id: str, now: float) -> _Pool:
        pool = self._pools.get(variant_id)
        if pool is None:
            pool = self._pools[variant_id] = _Pool()
        pool.follow(fleet, variant_id, now)
        return pool


class _Pool:
    """The replicas of one variant, whatever tiers and adapters they answer for."""

    def __init__(self) -> None:
        self.replicas: tuple[Replica, ...] = ()  # that are ready
        self._source: tuple[Replica, ...] | None = None
        self._read_at: datetime | None = None
        self._ring = Ring[UUID](())
        self._by_id: dict[UUID, Replica] = {}
        self._loads: dict[UUID, Load] = {}
        self._total_work = 0  # of the ready ones
        self._fresh_since: dict[UUID, float] = {}
        self._rate = CompletionRate()
        self._promised_until = 0.0
        self._turn = 0

    def follow(self, fleet: Fleet, variant_id: str, now: float) -> None:
        """Take over another reading of the fleet. Costs nothing as long as it is the same."""
        source = fleet.replicas.get(variant_id, ())
        if source is self._source or (self._read_at and fleet.read_at and fleet.read_at < self._read_at):
            return  # the second: a request that began before the latest reading
        self._source, self._read_at = source, fleet.read_at
        self.replicas = tuple(one for one in source if one.state == "ready")
        by_id = {one.id: one for one in self.replicas}
        for one in self.replicas:
            age = fleet.seconds_ready(one)
            if one.id not in self._by_id and age is not None and age < SLOW_START_SECONDS:
                self._fresh_since[one.id] = now - age
        if by_id.keys() != self._by_id.keys():
            self._ring = Ring(tuple(by_id))
        self._by_id = by_id
        self._loads = {id: load for id, load in self._loads.items() if load.requests}
        self._total_work = sum(load.work for id, load in self._loads.items() if id in by_id)

    def choose(self, fit: Sequence[Replica], work: Work, batches: float, now: float) -> Replica | None:
        """Among those that are fit; None when all are full."""
        if len(fit) > 1 and (beginning := work.beginning()) is not None:
            are_all = len(fit) == len(self.replicas)
            mean = (self._total_work if are_all else self._work_of(fit)) / self._shares(fit, now)
            by_id = self._by_id if are_all else {one.id: one for one in fit}
            looked_at = 0
            for id in self._ring.walk(point(beginning)):
                if (replica := by_id.get(id)) is None:
                    continue
                if not self.is_full(replica, batches) and self._has_time(replica, mean, now):
                    return replica
                looked_at += 1
                if looked_at == PLACES:
                    break
        return self._least_busy(fit, batches, now)

    def is_full(self, replica: Replica, batches: float) -> bool:
        """Whether it holds as many requests as it may. An engine of which we know no batch size refuses for itself."""
        load = self._loads.get(replica.id)
        return load is not None and replica.max_num_seqs is not None and load.requests >= batches * replica.max_num_seqs

    def take(self, id: UUID, weight: int) -> None:
        """One request more."""
        load = self._loads.setdefault(id, Load())
        load.requests += 1
        load.work += weight
        if id in self._by_id:
            self._total_work += weight

    def leave(self, id: UUID, weight: int, now: float, *, answered: bool) -> None:
        """One request less."""
        load = self._loads[id]
        load.requests -= 1
        load.work -= weight
        if id in self._by_id:
            self._total_work -= weight
        if answered:
            self._rate.count(now)

    def load(self, id: UUID) -> Load:
        """What a replica holds now."""
        return self._loads.get(id, Load())

    def slow_start(self, id: UUID, now: float) -> None:
        """Its share begins small, now."""
        self._fresh_since[id] = now

    def promise(self, now: float) -> float:
        """After how many seconds a place should be free for this caller: places come free at the measured rate, and
        those who were told before go first. Otherwise a crowd would be sent away together and come back together."""
        rate = self._rate.per_second(now)
        step = 1 / rate if rate else float(RATE_SECONDS)
        self._promised_until = min(max(self._promised_until, now) + step, now + LONGEST_WAIT_SECONDS)
        return self._promised_until - now

    def _least_busy(self, fit: Sequence[Replica], batches: float, now: float) -> Replica | None:
        # Begun at another one each time: gateways that see nothing but idle replicas must not all take the first.
        self._turn = (self._turn + 1) % len(fit)
        best, best_busyness = None, float("inf")
        for one in (*fit[self._turn :], *fit[: self._turn]):
            load = self._loads.get(one.id)
            if load is None or not load.requests:
                return one
            busyness = load.work / self._share(one.id, now)
            if busyness < best_busyness and not self.is_full(one, batches):
                best, best_busyness = one, busyness
        return best

    def _has_time(self, replica: Replica, mean: float, now: float) -> bool:
        load = self._loads.get(replica.id)
        if load is None:
            return True
        share = self._share(replica.id, now)
        comfort = COMFORT if replica.max_num_seqs is None else min(COMFORT, replica.max_num_seqs / 2)
        return load.requests < comfort * share or load.work <= BOUND * mean * share

    def _share(self, id: UUID, now: float) -> float:
        since = self._fresh_since.get(id)
        return 1.0 if since is None else slow_start_share(now - since)

    def _shares(self, fit: Sequence[Replica], now: float) -> float:
        """How many whole replicas these are worth."""
        if not self._fresh_since:
            return len(fit)
        self._fresh_since = {id: at for id, at in self._fresh_since.items() if now - at < SLOW_START_SECONDS}
        return sum(self._share(one.id, now) for one in fit)

    def _work_of(self, fit: Sequence[Replica]) -> int:
        return sum(load.work for one in fit if (load := self._loads.get(one.id)) is not None)


class Ring(dict[int, Key]):
    """Points on a circle, each of which belongs to a member. A key belongs to the next point's member."""

    def __init__(self, members: Sequence[Key]) -> None:
        owners = {point(b"%b %d" % (str(one).encode(), n)): one for one in members for n in range(POINTS)}
        super().__init__(owners)
        self._points = sorted(owners)

    def walk(self, at: int) -> Iterator[Key]:
        """The members as they come from a point on, each once."""
        seen: set[Key] = set()
        start = bisect(self._points, at)
        for index in range(start, start + len(self._points)):
            owner = self[self._points[index % len(self._points)]]
            if owner not in seen:
                seen.add(owner)
                yield owner


class CompletionRate:
    """Completions a second over the last RATE_SECONDS, in buckets of a second."""

    def __init__(self) -> None:
        self._counts = [0] * RATE_SECONDS
        self._second = 0
        self._began_at: float | None = None

    def count(self, now: float) -> None:
        """One more."""
        if self._began_at is None:
            self._began_at = now
        self._advance(now)
        self._counts[self._second % RATE_SECONDS] += 1

    def per_second(self, now: float) -> float:
        """0 when nothing was completed lately."""
        if self._began_at is None:
            return 0.0
        self._advance(now)
        return sum(self._counts) / min(max(now - self._began_at, 1.0), float(RATE_SECONDS))

    def _advance(self, now: float) -> None:
        second = int(now)
        for passed in range(max(self._second + 1, second - RATE_SECONDS + 1), second + 1):
            self._counts[passed % RATE_SECONDS] = 0
        self._second = max(self._second, second)


def weigh(body_bytes: int, tokens: int) -> int:
    """A request's work, in the time that an engine takes for one token of an answer. Roughly: it is for comparing."""
    return 1 + body_bytes // PROMPT_BYTES_PER_UNIT + tokens


def slow_start_share(age_seconds: float) -> float:
    """What part of a whole replica's share one gets that has been ready for so long."""
    return min(1.0, max(SLOW_START_SHARE, age_seconds / SLOW_START_SECONDS))


def point(data: bytes) -> int:
    """Where on the ring something lies; the same in every process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
