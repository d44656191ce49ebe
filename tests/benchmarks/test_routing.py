"""The parts of the routing simulation: a cache that forgets, an engine that queues, a trace that comes again."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks import routing
from benchmarks.routing import Conversation, Engine, Figures, Policy, PrefixCache, Request, Turn


def conversation(number: int = 1, *, tenant: int = 1, system_tokens: int = 128, question: int = 64) -> Conversation:
    return Conversation(number, tenant, system_tokens, False, 0.0, (Turn(question, 100, 0.0),))


def request(of: Conversation, *, turn: int = 0) -> Request:
    return Request(of, turn, of.system_tokens + of.turns[0].question_tokens, 0.0)


class TestCache:
    def test_conversations_of_a_tenant_share_its_system_prompt_and_nothing_else(self) -> None:
        cache = PrefixCache(100)
        cache.keep(request(conversation(1)).blocks(192))
        assert cache.cached_tokens(request(conversation(1)).blocks(192)) == 192
        assert cache.cached_tokens(request(conversation(2)).blocks(192)) == 128
        assert cache.cached_tokens(request(conversation(3, tenant=2)).blocks(192)) == 0

    def test_what_was_not_used_for_longest_is_forgotten_first(self) -> None:
        cache = PrefixCache(3)
        cache.keep(iter([1, 2, 3]))
        cache.keep(iter([1]))
        cache.keep(iter([4]))
        assert [cache.cached_tokens(iter([block])) for block in (1, 2, 3, 4)] == [64, 0, 64, 64]

    def test_a_prefix_ends_at_the_first_block_that_is_missing(self) -> None:
        cache = PrefixCache(10)
        cache.keep(iter([1, 3]))
        assert cache.cached_tokens(iter([1, 2, 3])) == 64


def test_prefills_of_one_engine_run_one_after_the_other_and_only_over_what_is_not_cached() -> None:
    engine = Engine(PrefixCache(100))
    first, second = request(conversation(1)), request(conversation(2))
    engine.admit(first, 10.0)
    engine.admit(second, 10.0)
    assert first.first_token_at == pytest.approx(10 + 192 / routing.PREFILL_TOKENS_PER_SECOND)
    assert second.prefill_at == first.first_token_at
    assert second.first_token_at - second.prefill_at == pytest.approx(64 / routing.PREFILL_TOKENS_PER_SECOND)


def test_a_full_engine_lets_requests_wait_until_one_ends() -> None:
    warming = conversation(0)
    crowd = [replace(conversation(n, tenant=n), begins_at=1.0) for n in range(1, routing.SLOTS + 2)]
    figures = routing.simulate([warming, *crowd], routing.round_robin(1, 1), 1, 4.0, cache_blocks=0)
    assert figures.requests == routing.SLOTS + 1
    answer_ms = 100 * routing.SECONDS_PER_TOKEN * 1000
    assert figures.queue_ms_p50 < answer_ms < figures.queue_ms_p99


class TestRuns:
    def run(self, make: Callable[[int, int], Policy]) -> Figures:
        trace = routing.trace(3, 8, 40, 1.0)
        return replace(routing.simulate(trace, make(8, 3), 8, 40), choice_us=0.0)

    def test_the_same_seed_gives_the_same_figures(self) -> None:
        assert self.run(routing.power_of_two) == self.run(routing.power_of_two)

    def test_every_request_ends_and_affinity_finds_more_than_chance(self) -> None:
        blind, ours = self.run(routing.least_load), self.run(routing.ours)
        assert ours.refused == 0
        assert ours.hit_rate > blind.hit_rate
