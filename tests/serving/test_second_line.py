"""An engine that writes on beyond the limit that it was sent, as one that somebody attached may: the gateway holds to
what the budget affords and to what the caller asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from serving.tokens.second_line import SecondLine
from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import CreatedKey, create_key
from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.serving.test_budgets import COMPLETION, PROMPT
from tests.stub_engine import StubEngine

WRITTEN = 5000  # tokens of each choice, whatever the limit
BODY: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "one two three"}], "stream": True}
USAGE = {"stream_options": {"include_usage": True}}

Buyer = Callable[[str], CreatedKey]


@pytest.fixture(scope="module")
def engine(house: House) -> Iterator[StubEngine]:
    with StubEngine(ignore_limit=WRITTEN) as stub:
        attach(house.operator, stub.url)
        yield stub


@pytest.fixture
def buyer(stranger: httpx.Client, house: House) -> Buyer:
    """A fresh key of that credit, which the gateway knows."""

    def make(credit: str) -> CreatedKey:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, f"credit of {credit}", "tests")
            session.flush()
            put_budget(session, house.tenant_id, key.id, "prepaid", Decimal(credit), "tests")
        wait_until(lambda: stranger.get("/v1/models", headers=bearer(key)).status_code == 200)
        return key

    return make


def bearer(key: CreatedKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text}"}


def events_of(api: httpx.Client, key: CreatedKey, body: dict[str, Any]) -> list[Any]:
    """What a stream says, but for its `[DONE]`, which must be its end."""
    answer = api.post("/v1/chat/completions", json=body, headers=bearer(key), timeout=30)
    assert answer.status_code == 200, answer.text
    *events, done = (line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: "))
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


def recorded(house: House, key: CreatedKey) -> ledger.Event:
    """The one event of a key."""
    wait_until(lambda: len(ledger.events(house.database, key.id)) == 1)
    (event,) = ledger.events(house.database, key.id)
    return event


def cost(event: ledger.Event) -> Decimal:
    return event.prompt_tokens * PROMPT + event.completion_tokens * COMPLETION


def words(events: list[Any], choice: int = 0) -> int:
    """Tokens that a choice has delivered."""
    return sum(
        bool(one["delta"].get("content")) for event in events for one in event["choices"] if one["index"] == choice
    )


def test_a_stream_ends_where_the_money_does_though_its_engine_goes_on(
    stranger: httpx.Client, buyer: Buyer, house: House, engine: StubEngine
) -> None:
    key = buyer("0.07")
    *deltas, closing = events_of(stranger, key, BODY | USAGE | {"max_tokens": 1000})
    event = recorded(house, key)
    last = deltas[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("length", "budget")
    assert words(deltas) == event.completion_tokens == closing["usage"]["completion_tokens"]
    assert (closing["choices"], closing["usage"]["prompt_tokens"]) == ([], event.prompt_tokens)
    assert Decimal("0.02") < cost(event) <= Decimal("0.07")  # the rest was kept for a longer prompt
    assert event.end_reason == "budget"
    wait_until(lambda: engine.counters().requests_running == 0)  # it was told, and does not write its thousands


def test_every_choice_of_a_stream_is_held_and_usage_is_shown_only_if_asked(
    stranger: httpx.Client, buyer: Buyer, house: House
) -> None:
    key = buyer("0.11")
    events = events_of(stranger, key, BODY | {"max_tokens": 1000, "n": 2})
    event = recorded(house, key)
    assert words(events, 0) == words(events, 1) == event.completion_tokens / 2 > 0
    assert [one["choices"][0].get("stop_reason") for one in events[-2:]] == ["budget", "budget"]
    assert not any(one.get("usage") for one in events)
    assert cost(event) <= Decimal("0.11")


def test_with_money_enough_the_callers_own_limit_holds(stranger: httpx.Client, buyer: Buyer, house: House) -> None:
    key = buyer("50")
    events = events_of(stranger, key, BODY | {"max_tokens": 100})
    assert words(events) == recorded(house, key).completion_tokens == 100
    last = events[-1]["choices"][0]
    assert last["finish_reason"] == "length"
    assert "stop_reason" not in last
    assert recorded(house, key).end_reason == "complete"


def test_other_dialects_end_as_theirs_do(stranger: httpx.Client, buyer: Buyer, house: House) -> None:
    body = {"model": CHAT, "input": "one two three", "stream": True, "max_output_tokens": 1000}
    key = buyer("0.08")
    text = stranger.post("/v1/responses", json=body, headers=bearer(key), timeout=30).text
    last = json.loads([line for line in text.split("\n") if line.startswith("data: ")][-1].removeprefix("data: "))
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"]["stop_reason"] == "budget"
    assert last["response"]["usage"]["output_tokens"] == recorded(house, key).completion_tokens
    assert cost(recorded(house, key)) <= Decimal("0.08")


def test_a_whole_answer_is_billed_no_further_than_what_was_set_aside(
    stranger: httpx.Client, buyer: Buyer, house: House
) -> None:
    key = buyer("0.09")
    answer = stranger.post(
        "/v1/chat/completions", json=BODY | {"stream": False, "max_tokens": 1000}, headers=bearer(key), timeout=30
    ).json()
    event = recorded(house, key)
    assert 0 < event.completion_tokens == answer["usage"]["completion_tokens"] < WRITTEN
    assert answer["usage"]["total_tokens"] == event.prompt_tokens + event.completion_tokens
    assert answer["choices"][0]["stop_reason"] == "budget"
    assert cost(event) <= Decimal("0.09")


def said(tokens: int, *choices: dict[str, Any]) -> dict[str, Any]:
    """One of an engine's stream."""
    return {"choices": list(choices), "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}


def test_what_comes_after_the_limit_of_one_choice_is_dropped_while_another_goes_on() -> None:
    line = SecondLine(10, 2, is_budget=True)
    several = said(12, {"index": 0, "finish_reason": None})  # an event of several tokens cannot be parted
    assert line.take(several)
    assert several["choices"] == [{"index": 0, "finish_reason": "length", "stop_reason": "budget"}]
    assert not line.take(said(13, {"index": 0, "finish_reason": None}))
    assert not line.ends_the_stream
    assert line.take(said(4, {"index": 1, "finish_reason": "stop"}))
    assert line.ends_the_stream


def test_an_engine_that_keeps_to_its_limit_ends_its_stream_itself() -> None:
    line = SecondLine(10, 1, is_budget=False)
    last = said(10, {"index": 0, "finish_reason": "length"})
    assert line.take(last)
    assert last == said(10, {"index": 0, "finish_reason": "length"})
    assert not line.ends_the_stream
    assert line.take({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 10}})


def test_nothing_was_overdrawn(gateway: GatewayProcess, house: House) -> None:
    """The last of this file: what the database has settled is what the events cost, and no budget is exceeded."""
    gateway.stop()
    with house.database.superuser() as connection:
        rows = connection.execute(
            "select b.amount, sum(a.spent) from budgets b join budget_accounts a on a.budget_id = b.id group by b.id"
        ).fetchall()
    assert len(rows) >= 5
    assert all(spent <= amount for amount, spent in rows)
    rated = sum((cost(event) for event in ledger.events(house.database)), Decimal(0))
    assert sum(spent for _, spent in rows) == rated
