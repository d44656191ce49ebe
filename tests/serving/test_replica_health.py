"""When a replica is left out, when it is tried again, and what brings it back."""

from __future__ import annotations

from uuid import UUID

import pytest

from serving.balance import Balancer, Work
from serving.fleet.view import Fleet
from serving.replica_health import EJECTION_SECONDS_MOST, FAILURES_MOST, Health
from serving.routing import Target
from studio import ids
from tests.serving.test_balance import fleet, replica
from tests.serving.test_wire import BASE


@pytest.fixture
def id() -> UUID:
    return ids.uuid7()


def ejected(id: UUID, now: float = 0.0) -> Health:
    health = Health()
    assert [health.unreachable(id, now), health.unreachable(id, now)] == [False, True]
    return health


class TestEjection:
    def test_two_failed_connections_in_a_row_eject(self, id: UUID) -> None:
        health = ejected(id)
        assert health.avoided(1.0) == {id}
        assert not health.is_healthy(id)

    def test_an_answer_between_them_forgives(self, id: UUID) -> None:
        health = Health()
        health.unreachable(id, 0.0)
        health.answered(id)
        assert not health.unreachable(id, 0.0)
        assert health.is_healthy(id)

    def test_failed_requests_eject_only_after_more_of_them(self, id: UUID) -> None:
        health = Health()
        assert [health.failed(id, 0.0) for _ in range(FAILURES_MOST)] == [False] * (FAILURES_MOST - 1) + [True]

    def test_when_its_time_is_over_one_request_tries_it(self, id: UUID) -> None:
        health = ejected(id)
        assert health.avoided(2.0) == set()
        health.asked(id, 2.0)
        assert health.avoided(2.0) == {id}
        assert health.answered(id)
        assert health.avoided(2.5) == set()
        assert health.is_healthy(id)

    def test_a_trial_that_says_nothing_leaves_the_next_one_free(self, id: UUID) -> None:
        health = ejected(id)
        health.asked(id, 2.0)
        health.left_open(id)
        assert health.avoided(2.0) == set()

    def test_each_time_is_twice_as_long_up_to_a_minute(self, id: UUID) -> None:
        health, now, lengths = ejected(id), 0.0, []
        for _ in range(7):
            until = health.due_at(id)
            lengths.append(until - now)
            now = until
            health.unreachable(id, now)
        assert lengths == [2, 4, 8, 16, 32, EJECTION_SECONDS_MOST, EJECTION_SECONDS_MOST]

    def test_failures_of_one_moment_count_once(self, id: UUID) -> None:
        health = ejected(id)
        for _ in range(10):
            health.unreachable(id, 1.0)
        assert health.due_at(id) == 2.0

    def test_a_replica_that_is_gone_is_forgotten(self, id: UUID) -> None:
        health = ejected(id)
        health.keep(set())
        assert health.is_healthy(id)


class TestProbes:
    def test_a_good_one_brings_back_what_could_not_be_reached(self, id: UUID) -> None:
        health = ejected(id)
        assert health.probed(id)
        assert health.avoided(0.5) == set()
        assert not health.probed(id)

    def test_it_says_nothing_about_an_engine_that_fails_its_requests(self, id: UUID) -> None:
        health = Health()
        for _ in range(FAILURES_MOST):
            health.failed(id, 0.0)
        assert not health.probed(id)
        assert health.avoided(0.5) == {id}


class TestChoice:
    TARGET = Target(BASE)

    def broken(self, balancer: Balancer, known: Fleet, *which: int, now: float = 0.0) -> None:
        for index in which:
            for _ in range(2):
                balancer.health.unreachable(known.replicas["m"][index].id, now)

    def test_an_ejected_replica_gets_nothing_while_another_answers(self) -> None:
        known, balancer = fleet(replica(), replica()), Balancer()
        self.broken(balancer, known, 0)
        chosen = {balancer.choose(known, self.TARGET, Work(0, b"x".strip), set(), 1.0) for _ in range(5)}
        assert chosen == {known.replicas["m"][1]}

    def test_when_all_are_ejected_the_one_that_is_due_first_is_asked(self) -> None:
        known, balancer = fleet(replica(), replica()), Balancer()
        self.broken(balancer, known, 0, now=0.5)
        self.broken(balancer, known, 1, now=0.0)
        assert balancer.choose(known, self.TARGET, Work(), set(), 1.0) == known.replicas["m"][1]

    def test_one_that_comes_back_starts_slowly(self) -> None:
        known, balancer = fleet(replica(), replica()), Balancer()
        back, other = known.replicas["m"]
        self.broken(balancer, known, 0)
        balancer.choose(known, self.TARGET, Work(), set(), 1.0)
        assert balancer.answered(back, 3.0)
        balancer.take(known, self.TARGET, back, Work(100), 0, 3.0)
        for _ in range(2):
            balancer.take(known, self.TARGET, other, Work(100), 0, 3.0)
        assert balancer.choose(known, self.TARGET, Work(), set(), 3.0) == other
