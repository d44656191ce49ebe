"""Which requests are the same, whose answers are sold, and what callers may say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from serving.cache.exact import is_sold, is_whole, same_answer, same_vectors
from serving.cache.vectors import inputs_of
from serving.cache.wish import KEPT, LONGEST, Wish, read_wish
from serving.fleet.view import Adapter, Fleet, Price, Replica
from serving.routing import Target
from serving.tokens.wire import CHAT, EMBEDDINGS, read_call
from studio import clock, ids
from studio.errors import InvalidRequest
from tests.serving.test_wire import BASE

MESSAGES = [{"role": "user", "content": "hello"}]


PLAIN = Target(BASE)


def key(target: Target = PLAIN, fleet: Fleet | None = None, **fields: Any) -> bytes:
    body = {"model": "m", "messages": MESSAGES, "temperature": 0} | fields
    return same_answer(read_call(CHAT, orjson.dumps(body)), target, fleet or Fleet())


def attached(*, somebody_elses: bool) -> Fleet:
    replica = Replica(ids.uuid7(), BASE.id, "ready", "", "m", clock.now(), is_attached=somebody_elses)
    return Fleet(replicas={BASE.id: (replica,)})


def test_a_fine_tuned_model_and_another_one_are_not_the_same() -> None:
    adapters = [Adapter(ids.uuid7(), ids.uuid7(), BASE.id, "mine", "a", clock.now(), []) for _ in range(2)]
    keys = {key(), *(key(Target(BASE, adapter)) for adapter in adapters)}
    assert len(keys) == 3


def test_what_runs_the_weights_counts_and_which_of_our_replicas_does_not() -> None:
    assert key() == key(fleet=attached(somebody_elses=False)) == key(fleet=attached(somebody_elses=False))
    keys = {
        key(),
        key(Target(replace(BASE, runs="other weights"))),
        key(Target(replace(BASE, max_output_tokens=7))),
        key(fleet=attached(somebody_elses=True)),
        key(fleet=attached(somebody_elses=True)),
    }
    assert len(keys) == 5


def test_the_order_of_fields_is_no_difference_and_that_within_one_is() -> None:
    assert key(stop=["a"], seed=3) == key(seed=3, stop=["a"])
    assert key(stop=["a", "b"]) != key(stop=["b", "a"])
    assert key(cache_salt="one") != key(cache_salt="two")


def test_vectors_differ_by_all_but_inputs_and_encoding() -> None:
    def vectors(**fields: Any) -> bytes:
        call = read_call(EMBEDDINGS, orjson.dumps({"model": "m", "input": "a"} | fields))
        return same_vectors(call, Target(BASE), Fleet())

    assert vectors() == vectors(input=["b"], encoding_format="base64", user="u") != vectors(dimensions=3)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]])],
)
def test_the_four_shapes_of_inputs_are_one(given: Any, inputs: list[Any]) -> None:
    assert inputs_of(read_call(EMBEDDINGS, orjson.dumps({"model": "m", "input": given}))) == inputs


@pytest.mark.parametrize(
    ("reasons", "whole"),
    [(["stop"], True), (["length", "tool_calls"], True), (["stop", "abort"], False), ([None], False), ([], False)],
)
def test_only_what_has_ended_by_itself_is_whole(reasons: list[str | None], whole: bool) -> None:
    assert is_whole({"choices": [{"finish_reason": reason} for reason in reasons]}) is whole


def test_cached_answers_are_sold_in_every_currency_or_not_at_all() -> None:
    def prices(*sold: tuple[str, str]) -> list[Price]:
        return [Price("m", unit, currency, Decimal(1)) for currency, unit in sold]

    assert is_sold(prices(("EUR", "prompt"), ("EUR", "reused")))
    assert is_sold(prices(("EUR", "reused"), ("CNY", "reused"), ("CNY", "prompt")))
    assert not is_sold(prices(("EUR", "reused"), ("EUR", "prompt"), ("CNY", "prompt")))
    assert not is_sold([])


@pytest.mark.parametrize(
    ("cache", "control", "wish"),
    [
        (None, "no-store", None),
        ("use", None, Wish()),
        (" Use; TTL=60 ", "", Wish(ttl=timedelta(minutes=1))),
        ("always;ttl=604800", None, Wish(sampled_too=True, ttl=LONGEST)),
        ("use", "no-cache", Wish(reads=False)),
        ("use", "private, No-Store", Wish(reads=False, stores=False)),
        ("use", "max-age=5, max-age=50", Wish(oldest=timedelta(seconds=5))),
        ("use", "max-age=-5, max-stale", Wish()),
    ],
)
def test_a_wish_is_two_headers(cache: str | None, control: str | None, wish: Wish | None) -> None:
    assert read_wish({b"x-studio-cache": cache, b"cache-control": control}.get) == wish
    assert Wish().ttl == KEPT


@pytest.mark.parametrize("header", ["", "yes", "use; ttl=0", "use; ttl=604801", "use ttl=5", "use; ttl=1.5"])
def test_another_word_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 604800 seconds"):
        read_wish({b"x-studio-cache": header}.get)
