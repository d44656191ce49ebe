"""Buckets: how much they let through, what is given back, and that Valkey's script is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.limits.buckets import Buckets, Reading
from serving.limits.connection import Connection
from serving.limits.rules import PERIODS_MS, TOKENS, Rule
from serving.limits.shared import BUCKET, bucket_call
from studio import ids
from tests.serving.limits.valkey_server import ValkeyServer

TENANT = ids.uuid7()


def rule(*, second: int = 0, minute: int = 0, tokens: int = 0, concurrent: int = 0) -> Rule:
    return Rule(ids.uuid7(), TENANT, None, None, (second, minute, tokens, concurrent))


def drained_at(rules: Sequence[Rule], reading: Reading) -> list[int]:
    return [
        reading.now_ms + -(-levels[TOKENS] // most) if (most := one.ceilings[TOKENS]) else 0
        for one, levels in zip(rules, reading.levels, strict=True)
    ]


@given(
    st.integers(1, 50),
    st.integers(1, 200),
    st.integers(1, 2_000),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 2_500)), max_size=60),
)
def test_no_window_ever_admits_more_than_the_limit_and_what_drains_in_it(
    second: int, minute: int, tokens: int, arrivals: list[tuple[int, int]]
) -> None:
    rules, buckets = (rule(second=second, minute=minute, tokens=tokens),), Buckets()
    instants = accumulate(gap for gap, _ in arrivals)
    admitted = [
        (now, wanted)
        for now, (_, wanted) in zip(instants, arrivals, strict=True)
        if buckets.take(rules, str(now), wanted, now).admitted
    ]
    for first, (start, _) in enumerate(admitted):
        requests = taken = 0
        for end, wanted in admitted[first:]:
            requests, taken = requests + 1, taken + wanted
            for used, limit, period in zip(
                (requests, requests, taken), (second, minute, tokens), PERIODS_MS, strict=True
            ):
                assert used * period <= limit * (period + end - start)


def test_a_refusal_counts_nothing_under_any_rule() -> None:
    wide, narrow, buckets = rule(minute=10), rule(minute=1), Buckets()
    assert buckets.take((wide, narrow), "a", 0, 0).admitted
    assert [buckets.take((wide, narrow), "b", 0, 0).admitted for _ in range(20)] == [False] * 20
    assert [buckets.take((wide,), "c", 0, 0).admitted for _ in range(10)] == [True] * 9 + [False]


def test_a_bucket_is_as_full_as_it_says() -> None:
    rules, buckets = (rule(minute=3),), Buckets()
    for _ in range(3):
        assert buckets.take(rules, "a", 0, 0).admitted
    refused = buckets.take(rules, "a", 0, 5_000)
    assert refused.levels[0][1] == 4 * 60_000 - 5_000 * 3
    assert not buckets.take(rules, "a", 0, 19_999).admitted
    assert buckets.take(rules, "a", 0, 20_000).admitted


class TestTokens:
    def test_what_was_not_used_is_given_back(self) -> None:
        rules, buckets = (rule(tokens=1_000),), Buckets()
        reading = buckets.take(rules, "a", 900, 0)
        buckets.correct(rules, 100 - 900, drained_at(rules, reading), 0)
        assert buckets.look(rules, 0).levels[0][TOKENS] == 100 * 60_000

    def test_what_was_used_above_the_estimate_is_owed(self) -> None:
        rules, buckets = (rule(tokens=1_000),), Buckets()
        reading = buckets.take(rules, "a", 100, 0)
        buckets.correct(rules, 1_900, drained_at(rules, reading), 0)
        assert not buckets.take(rules, "b", 1, 60_000).admitted
        assert buckets.take(rules, "b", 1, 60_060).admitted

    def test_a_reservation_that_has_drained_makes_no_room_for_others(self) -> None:
        rules, buckets = (rule(tokens=1_000),), Buckets()
        long_ago = buckets.take(rules, "a", 1_000, 0)
        assert buckets.take(rules, "b", 1_000, 60_000).admitted
        buckets.correct(rules, -1_000, drained_at(rules, long_ago), 60_000)
        assert not buckets.take(rules, "c", 1, 60_000).admitted


def test_who_ends_makes_room_for_the_next() -> None:
    rules, buckets = (rule(concurrent=2),), Buckets()
    assert [buckets.take(rules, name, 0, 0).admitted for name in "abc"] == [True, True, False]
    buckets.finish(rules, "c")
    assert not buckets.take(rules, "d", 0, 0).admitted
    buckets.finish(rules, "a")
    assert buckets.take(rules, "d", 0, 0).admitted


def test_shares_never_add_up_to_more_than_the_limit_where_it_reaches_for_all() -> None:
    for gateways in range(1, 9):
        for limit in range(gateways, 40):
            assert rule(minute=limit).shared_among(gateways).ceilings[1] * gateways <= limit
    assert rule(minute=1, tokens=1).shared_among(3).ceilings == (0, 1, 1, 0)


Step = tuple[str, int, int]  # what, with which number, and how long before it
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "take", "end", "look"]), st.integers(0, 3_000), st.integers(0, 40_000)),
    max_size=30,
)
LIMITS = st.lists(
    st.builds(
        rule,
        second=st.integers(0, 3),
        minute=st.integers(0, 8),
        tokens=st.sampled_from([0, 1_000, 5_000, 100_000_000_000]),
        concurrent=st.integers(0, 4),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(LIMITS, STEPS)
def test_valkeys_script_and_the_buckets_in_process_agree(
    valkey: ValkeyServer, rules: list[Rule], steps: list[Step]
) -> None:
    asyncio.run(_compare(valkey.url, rules, steps))


async def _compare(url: str, rules: list[Rule], steps: list[Step]) -> None:
    connection = await Connection.open(url)
    try:
        await _play(connection, rules, steps)
    finally:
        connection.close()
        await connection.lost


async def _play(connection: Connection, rules: list[Rule], steps: list[Step]) -> None:
    """Valkey's clock cannot be set, so what it keeps is made older instead."""
    buckets = Buckets()
    await connection.call("SCRIPT", "LOAD", BUCKET.source)
    older = 0
    leases: list[tuple[str, int, list[int]]] = []
    for number, (act, amount, pause_ms) in enumerate(steps):
        older += pause_ms
        for one in rules:
            if await connection.call("EXISTS", one.level_key):
                await connection.call("HINCRBY", one.level_key, "at", -pause_ms)
        name = str(number)
        if act == "end":
            if not leases:
                continue
            name, reserved, drained = leases.pop(amount % len(leases))
            in_valkey = [at - older for at in drained]
            _, now, *_ = await connection.call(*bucket_call("end", rules, name, 0, amount - reserved, in_valkey))
            buckets.correct(rules, amount - reserved, drained, now + older)
            buckets.finish(rules, name)
            continue
        weight = 1 if act == "take" else 0
        admitted, now, *flat = await connection.call(
            *bucket_call(act, rules, name, weight, amount * weight, [0] * len(rules))
        )
        now += older
        reading = buckets.take(rules, name, amount, now) if weight else buckets.look(rules, now)
        assert (admitted == 1, [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]) == (
            reading.admitted,
            list(reading.levels),
        )
        if weight and reading.admitted:
            leases.append((name, amount, drained_at(rules, reading)))
