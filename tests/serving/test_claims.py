"""A claim on an idempotent request is one run's, until its lease is over by the database's clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from serving.idempotency.joins import MOST, MOST_OF_TENANT, Joins
from serving.idempotency.store import KeptAnswer, Mine, Request, Running, Store
from serving.keys import KeyRecord
from studio import clock, ids
from studio.errors import RateLimited, ServiceUnavailable
from tests.serving.claims import claims_of
from tests.serving.conftest import House


@pytest.fixture
def store(house: House) -> Iterator[Store]:
    with claims_of(house) as (store, _):
        yield store


@pytest.fixture
def caller(house: House) -> Iterator[KeyRecord]:
    with claims_of(house) as (_, caller):
        yield caller


def answer(text: bytes) -> KeptAnswer:
    return KeptAnswer(200, b"application/json", text)


def taken_over(house: House, store: Store, request: Request) -> tuple[Mine, Mine]:
    """Two runs of one request: the first was silent for longer than its lease."""
    first = store.claim(request, ids.uuid7())
    with house.database.superuser() as connection:
        connection.execute("update idempotent_answers set lease_until = now() where content is null")
    second = store.claim(request, ids.uuid7())
    assert isinstance(first, Mine)
    assert isinstance(second, Mine)
    assert second.request_id == first.request_id
    return first, second


def test_a_run_that_lost_its_claim_changes_nothing(house: House, store: Store, caller: KeyRecord) -> None:
    """The same gateway runs it twice, as one that was cut off from the database for a while does."""
    request = Request.of(caller, "twice", "/v1/x", b"")
    first, second = taken_over(house, store, request)
    assert not store.renew(request, first)
    assert not store.keep(request, first, answer(b"of the first"))
    store.give_up(request, first)
    assert store.claim(request, ids.uuid7()) == Running()
    assert store.renew(request, second)
    assert store.keep(request, second, answer(b"of the second"))
    assert store.claim(request, ids.uuid7()) == answer(b"of the second")


def test_a_run_that_comes_after_the_answer_does_not_replace_it(house: House, store: Store, caller: KeyRecord) -> None:
    request = Request.of(caller, "late", "/v1/x", b"")
    first, second = taken_over(house, store, request)
    assert store.keep(request, second, answer(b"of the second"))
    assert not store.keep(request, first, answer(b"of the first"))
    store.give_up(request, first)
    assert store.claim(request, ids.uuid7()) == answer(b"of the second")


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_gateway_with_another_time_does_not_take_over_what_runs(
    store: Store, caller: KeyRecord, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    request, real = Request.of(caller, f"clocks {hours}", "/v1/x", b""), clock.now
    assert isinstance(store.claim(request, ids.uuid7()), Mine)
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(hours=hours))
    assert store.claim(request, ids.uuid7()) == Running()


def test_joins_have_a_bound_for_a_tenant_and_one_for_all() -> None:
    joins, one = Joins(), ids.uuid7()
    places = [joins.one_more(one) for _ in range(MOST_OF_TENANT)]
    for place in places:
        place.__enter__()
    with pytest.raises(RateLimited, match="Idempotency-Key"), joins.one_more(one):
        pass
    others = [joins.one_more(ids.uuid7()) for _ in range(MOST - MOST_OF_TENANT)]
    for place in others:
        place.__enter__()
    with pytest.raises(ServiceUnavailable), joins.one_more(ids.uuid7()):
        pass
    places.pop().__exit__(None, None, None)
    with joins.one_more(one):
        pass
