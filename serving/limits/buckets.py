"""Buckets in this process: what `bucket.lua` does in Valkey, for a gateway that is alone or has lost it. Pure: the
clock is passed in.

A rate of `limit` per period is a bucket that drains evenly and holds one period of it (GCRA). Its level counts requests
or tokens times milliseconds, so that a millisecond drains exactly `limit` of it: whole numbers, no rounding, and a
limit that is changed keeps what was counted. In any window of time T a rate admits at most limit * (1 + T / period).

Tokens are taken by estimate and corrected when the request ends. Only what has not drained since is given back:
otherwise an old reservation, long forgotten by the bucket, would make room for others. What was used above the estimate
is added, over the brim if need be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from serving.limits.rules import CONCURRENT, PERIODS_MS, TOKENS, Rule

Levels = tuple[int, int, int, int]  # of the three rates, and how many requests run


class Reading(msgspec.Struct, frozen=True):
    """How full the buckets of some rules are at an instant, with the request that was asked about: when it was not
    admitted, as full as it would have made them."""

    admitted: bool
    now_ms: int
    levels: Sequence[Levels]


@dataclass(slots=True)
class _Bucket:
    at_ms: int
    levels: tuple[int, int, int]


class Buckets:
    """One bucket for each rate of each rule, and which requests run under it."""

    def __init__(self) -> None:
        self._buckets: dict[UUID, _Bucket] = {}
        self.running: dict[str, set[str]] = {}  # of this gateway, whoever admitted them; by the rule's `running_key`

    def take(self, rules: Sequence[Rule], request: str, tokens: int, now_ms: int) -> Reading:
        """Count one request with its tokens under all rules, or under none."""
        weights = (1, 1, tokens)
        levels = []
        admitted = True
        for rule in rules:
            drained = self._drained(rule, now_ms)
            taken = [
                level + weight * period if most else 0
                for level, weight, period, most in zip(drained, weights, PERIODS_MS, rule.ceilings, strict=False)
            ]
            running = len(self.running.get(rule.running_key, ())) + 1 if rule.ceilings[CONCURRENT] else 0
            reading = (taken[0], taken[1], taken[2], running)
            admitted = admitted and _fits(rule, reading)
            levels.append(reading)
        if admitted:
            for rule, reading in zip(rules, levels, strict=True):
                self._buckets[rule.id] = _Bucket(now_ms, reading[:3])
            self.begin(rules, request)
        return Reading(admitted, now_ms, levels)

    def correct(self, rules: Sequence[Rule], tokens: int, drained_at_ms: Sequence[int], now_ms: int) -> None:
        """The truth of a request that was taken: `tokens` more, or less, than it reserved."""
        for rule, drained_at in zip(rules, drained_at_ms, strict=True):
            second, minute, level = self._drained(rule, now_ms)
            most = rule.ceilings[TOKENS]
            if most:
                left = max(0, min(level, (drained_at - now_ms) * most))
                level += max(tokens * PERIODS_MS[TOKENS], -left)
            self._buckets[rule.id] = _Bucket(now_ms, (second, minute, level))

    def look(self, rules: Sequence[Rule], now_ms: int) -> Reading:
        """As they are."""
        return Reading(
            True,
            now_ms,
            [(*self._drained(rule, now_ms), len(self.running.get(rule.running_key, ()))) for rule in rules],
        )

    def begin(self, rules: Sequence[Rule], request: str) -> None:
        """A request runs."""
        for rule in rules:
            if rule.ceilings[CONCURRENT]:
                self.running.setdefault(rule.running_key, set()).add(request)

    def finish(self, rules: Sequence[Rule], request: str) -> None:
        """It does not any more."""
        for rule in rules:
            if (running := self.running.get(rule.running_key)) is not None:
                running.discard(request)
                if not running:
                    del self.running[rule.running_key]

    def _drained(self, rule: Rule, now_ms: int) -> tuple[int, int, int]:
        bucket = self._buckets.get(rule.id)
        if bucket is None:
            return (0, 0, 0)
        elapsed = max(0, now_ms - bucket.at_ms)
        second, minute, tokens = (
            max(0, level - elapsed * most) if most else 0
            for level, most in zip(bucket.levels, rule.ceilings, strict=False)
        )
        return (second, minute, tokens)


def _fits(rule: Rule, levels: Levels) -> bool:
    *rates, running = levels
    return running <= (rule.ceilings[CONCURRENT] or running) and all(
        level <= most * period for level, most, period in zip(rates, rule.ceilings, PERIODS_MS, strict=False)
    )
