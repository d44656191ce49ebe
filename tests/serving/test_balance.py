"""Which replica takes a request: affinity and its bound, the least busy one, newcomers, and the end of every queue."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from datetime import timedelta
from math import ceil
from typing import Literal
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import balance
from serving.balance import Balancer, CompletionRate, Full, Place, Ring, Work, slow_start_share, weigh
from serving.fleet.view import Adapter, Fleet, Replica
from serving.routing import Target
from serving.tokens.weighing import beginning, work_of
from serving.tokens.wire import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint, read_call
from studio import ids
from tests.serving.test_wire import BASE, NOW

FAST = replace(BASE, id="m-fast", tier="fast", served_by="m")
ANY = Work()
TARGET = Target(BASE)


def replica(
    state: Literal["starting", "ready", "draining"] = "ready", *, slots: int | None = 8, age: float = 3600
) -> Replica:
    ready_at = NOW - timedelta(seconds=age)
    return Replica(ids.uuid7(), "m", state, "http://engine", "weights", ready_at, ready_at, max_num_seqs=slots)


def fleet(*replicas: Replica) -> Fleet:
    return Fleet({"m": BASE, "m-fast": FAST}, {"m": replicas}, read_at=NOW)


def about(subject: str, tokens: int = 100) -> Work:
    return Work(tokens, subject.encode)


class House:
    """Replicas and who takes what."""

    def __init__(self, *replicas: Replica, now: float = 1000.0) -> None:
        self.balancer = Balancer()
        self.fleet = fleet(*replicas)
        self.now = now

    def choose(self, work: Work = ANY, target: Target = TARGET, tried: frozenset[UUID] = frozenset()) -> Replica | None:
        return self.balancer.choose(self.fleet, target, work, tried, self.now)

    def take(self, work: Work = ANY, target: Target = TARGET, *, body_bytes: int = 0) -> Place:
        chosen = self.choose(work, target)
        assert chosen is not None
        return self.balancer.take(self.fleet, target, chosen, work, body_bytes, self.now)

    def load(self, one: Replica, requests: int, work: Work = ANY) -> list[Place]:
        return [self.balancer.take(self.fleet, TARGET, one, work, 0, self.now) for _ in range(requests)]


class TestLeastBusy:
    def test_the_one_with_the_least_outstanding_work_answers(self) -> None:
        two_short, one_long, draining = replica(), replica(), replica("draining")
        house = House(two_short, one_long, draining)
        house.load(two_short, 2, Work(10))
        house.load(one_long, 1, Work(500))
        assert house.choose() == two_short

    def test_what_has_ended_is_no_work_any_more(self) -> None:
        one, two = replica(), replica()
        house = House(one, two)
        house.load(two, 1)
        for place in house.load(one, 3):
            place.leave(house.now, answered=True)
        assert house.choose() == one
        assert house.balancer.requests_of(one) == 0

    def test_one_that_was_tried_is_not_asked_again(self) -> None:
        one, two = replica(), replica()
        house = House(one, two)
        assert house.choose(tried=frozenset({one.id})) == two
        assert house.choose(tried=frozenset({one.id, two.id})) is None
        assert House(one).choose(tried=frozenset({one.id})) is None

    def test_a_shared_engine_answers_for_both_tiers(self) -> None:
        one = replica()
        assert House(one).choose(target=Target(FAST)) == one

    def test_only_replicas_that_have_loaded_an_adapter_answer_for_it(self) -> None:
        without, having = replica(), replica()
        adapter = Adapter(ids.uuid7(), ids.uuid7(), "m", "ft:m", "hash", NOW, [having.id])
        house = House(without, having)
        house.load(having, 3)
        assert house.choose(target=Target(BASE, adapter)) == having

    def test_a_request_that_began_before_the_latest_reading_does_not_bring_the_old_one_back(self) -> None:
        old, new = fleet(replica()), replace(fleet(replica()), read_at=NOW + timedelta(seconds=2))
        balancer = Balancer()
        assert [balancer.choose(known, TARGET, ANY, set(), 0.0) for known in (old, new, old)] == [
            old.replicas["m"][0],
            *new.replicas["m"] * 2,
        ]

    def test_idle_ones_take_turns(self) -> None:
        house = House(replica(), replica(), replica())
        assert len({house.choose() for _ in range(3)}) == 3


class TestAffinity:
    def test_what_begins_alike_goes_to_the_same_place_in_every_process(self) -> None:
        replicas = [replica() for _ in range(8)]
        places = {House(*replicas).choose(about("a long story")) for _ in range(3)}
        assert len(places) == 1
        assert len({House(*replicas).choose(about(f"story {n}")) for n in range(40)}) > 4

    def test_an_idle_engine_keeps_its_conversations_whatever_the_mean(self) -> None:
        house = House(*[replica(slots=8) for _ in range(50)])
        assert len({house.take(about("one")).replica for _ in range(2)}) == 1

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 2000)), min_size=1, max_size=150))
    def test_a_preferred_replica_is_never_over_the_bound_and_never_uncomfortable(
        self, requests: list[tuple[str, int]]
    ) -> None:
        replicas = [replica(slots=None) for _ in range(5)]
        house = House(*replicas)
        work: Counter[Replica] = Counter()
        held: Counter[Replica] = Counter()
        for subject, tokens in requests:
            mean = sum(work.values()) / len(replicas)
            chosen = house.take(about(subject, tokens)).replica
            is_within = work[chosen] <= balance.BOUND * mean or held[chosen] < balance.COMFORT
            is_least_busy = work[chosen] == min(work[one] for one in replicas)
            assert is_within or is_least_busy
            work[chosen] += weigh(0, tokens)
            held[chosen] += 1

    @settings(deadline=None)
    @given(st.integers(2, 12), st.integers(0, 10_000))
    def test_a_replica_that_leaves_moves_only_what_it_had(self, count: int, seed: int) -> None:
        members = [f"{seed}-{n}" for n in range(count)]
        whole, rest = Ring(members), Ring(members[1:])
        for key in range(200):
            at = balance.point(b"%d" % key)
            before = next(whole.walk(at))
            if before != members[0]:
                assert next(rest.walk(at)) == before

    def test_a_newcomer_takes_about_its_share(self) -> None:
        members = [f"r{n}" for n in range(20)]
        before, after = Ring(members), Ring([*members, "new"])
        points = [balance.point(b"%d" % key) for key in range(4000)]
        moved = [at for at in points if next(before.walk(at)) != next(after.walk(at))]
        assert all(next(after.walk(at)) == "new" for at in moved)
        assert 0.5 / 21 < len(moved) / len(points) < 2 / 21

    def test_a_walk_around_the_ring_meets_everyone_once(self) -> None:
        assert sorted(Ring("abc").walk(balance.point(b"x"))) == ["a", "b", "c"]


class TestSlowStart:
    def test_a_share_grows(self) -> None:
        assert [slow_start_share(age) for age in (0, 15, 30, 300)] == [0.1, 0.5, 1.0, 1.0]

    def test_a_newcomer_counts_its_work_for_more_until_it_is_warm(self) -> None:
        old, new = replica(), replica(age=3)
        house = House(old, new)
        house.load(old, 2, Work(100))
        house.load(new, 1, Work(100))
        assert house.choose() == old
        house.now += 60
        assert house.choose() == new

    def test_a_newcomer_is_soon_passed_over_by_what_would_be_its_own(self) -> None:
        replicas = [replica() for _ in range(3)]
        mine = House(*replicas).take(about("x")).replica
        house = House(*[replace(one, ready_at=NOW) if one == mine else one for one in replicas])
        assert house.take(about("x")).replica.id == mine.id
        assert house.take(about("x")).replica.id != mine.id


class TestFull:
    def test_base_is_refused_before_fast_and_both_before_the_queue_is_endless(self) -> None:
        one = replica(slots=4)
        house = House(one)
        for _ in range(8):
            house.take()
        with pytest.raises(Full):
            house.take()
        for _ in range(4):
            house.take(target=Target(FAST))
        with pytest.raises(Full):
            house.take(target=Target(FAST))

    def test_a_full_replica_is_passed_over_as_long_as_another_has_room(self) -> None:
        full, free = replica(slots=1), replica(slots=1)
        house = House(full, free)
        house.load(full, 2)
        for _ in range(2):
            assert house.take(Work(9000)).replica == free
        with pytest.raises(Full):
            house.take()

    def test_an_engine_that_did_not_say_how_much_it_takes_is_never_full_for_us(self) -> None:
        house = House(replica(slots=None))
        assert [house.take() for _ in range(500)]

    def test_who_is_patient_queues_at_a_full_engine(self) -> None:
        house = House(replica(slots=1))
        assert [house.take(Work(patient=True)) for _ in range(20)]

    def test_the_promise_follows_the_measured_rate_and_those_promised_before(self) -> None:
        one = replica(slots=1)
        house = House(one)
        for second in range(20):  # one a second
            house.now = 1000.0 + second
            for place in house.load(one, 1):
                place.leave(house.now, answered=True)
        house.load(one, 2)
        promises = []
        for _ in range(3):
            with pytest.raises(Full) as refused:
                house.take()
            promises.append(refused.value.seconds)
        assert promises == pytest.approx([0.95, 1.9, 2.85], abs=0.01)

    def test_who_comes_back_when_told_finds_a_place(self) -> None:
        """A crowd comes at once to an engine that ends two answers a second. Who is sent away comes back after the
        whole seconds of its `Retry-After`, and the promise is kept: none is sent away again."""
        house = House(replica(slots=2))
        held: deque[Place] = deque()

        def half_a_second() -> None:
            house.now += 0.5
            if held:
                held.popleft().leave(house.now, answered=True)

        for _ in range(80):  # a steady day, by which the rate is known
            held.append(house.take())
            half_a_second()
        back_at: list[float] = []
        for _ in range(40):
            try:
                held.append(house.take())
            except Full as refused:
                back_at.append(house.now + ceil(refused.seconds))
        assert len(back_at) == 40 - 4
        latest = max(back_at)
        assert latest - house.now < 25  # and not by promising too little: 36 answers take 18 s
        while house.now < latest:
            half_a_second()
            held.extend(house.take() for due in back_at if due == house.now)

    def test_without_a_measurement_the_promise_is_careful_and_never_beyond_two_minutes(self) -> None:
        one = replica(slots=1)
        house = House(one)
        house.load(one, 2)
        promises = []
        for _ in range(9):
            with pytest.raises(Full) as refused:
                house.take()
            promises.append(refused.value.seconds)
        assert promises[0] == balance.RATE_SECONDS
        assert promises[-1] == 120

    def test_a_rate_forgets(self) -> None:
        rate = CompletionRate()
        for second in range(100):
            rate.count(float(second))
            rate.count(second + 0.5)
        assert rate.per_second(100.0) == pytest.approx(2, abs=0.1)
        assert rate.per_second(500.0) == 0


class TestBeginning:
    SALT = "salt"

    def of(self, endpoint: Endpoint = CHAT, salt: str = SALT, **body: object) -> bytes | None:
        return beginning(read_call(endpoint, orjson.dumps({"model": "m"} | body)), Target(BASE), salt)

    def chat(self, *said: str, salt: str = SALT) -> bytes | None:
        roles = ["system", "user", "assistant", "user"]
        return self.of(
            salt=salt, messages=[{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
        )

    def test_all_turns_of_a_conversation_begin_alike(self) -> None:
        assert self.chat("be kind", "hello") == self.chat("be kind", "hello", "hi", "and now?")
        assert self.chat("be kind", "hello") != self.chat("be kind", "good day")
        assert self.chat("be kind", "hello") != self.chat("be rude", "hello")

    def test_tenants_never_share_one(self) -> None:
        assert self.chat("be kind", "hello") != self.chat("be kind", "hello", salt="another")

    def test_questions_about_one_long_document_begin_alike(self) -> None:
        document = "x" * 5000
        assert self.chat("", f"{document} who?") == self.chat("", f"{document} when?")

    def test_an_image_is_known_by_its_address(self) -> None:
        def about(url: str) -> bytes | None:
            parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}]
            return self.of(messages=[{"role": "user", "content": parts}])

        assert about("https://a/1") == about("https://a/1") != about("https://a/2")
        assert len(about("data:" + "x" * 1_000_000) or b"") < 5000

    def test_prompts_in_every_shape_have_one(self) -> None:
        for prompt in ("text", ["text", "more"], [1, 2, 3], [[1, 2], [3]]):
            assert self.of(COMPLETIONS, prompt=prompt)

    def test_an_answer_weighs_what_it_may_become_up_to_what_is_usual(self) -> None:
        def tokens(endpoint: Endpoint = CHAT, **body: object) -> int:
            asked: dict[str, object] = {"input": "x"} if endpoint is EMBEDDINGS else {"messages": [{"role": "user"}]}
            whole = {"model": "m"} | asked | body
            return work_of(read_call(endpoint, orjson.dumps(whole)), TARGET, self.SALT).tokens

        assert tokens(max_tokens=7) == 7
        assert tokens(max_tokens=7, n=3) == 21
        assert tokens() == tokens(max_tokens=4000) == 512
        assert tokens(EMBEDDINGS) == 0
