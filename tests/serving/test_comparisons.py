"""Blind comparisons: before the vote nothing names a model, and the requests cost what they always cost."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serving.comparisons.store import PairTally, tallied
from studio import ids
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, wait_until
from tests.serving.ledger import events

ASLEEP = "qwen3-32b"  # no replica of it runs here
NAMES = (CHAT, "SmolLM2", ASLEEP, "Qwen3", "stub")


def compare(api: httpx.Client, *models: str) -> dict[str, Any]:
    answer = api.post("/v1/comparisons", json={"models": list(models)})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ask(api: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    messages = [{"role": "user", "content": "one two three"}]
    return api.post("/v1/chat/completions", json={"model": model, "messages": messages, "max_tokens": 4} | fields)


def everything(answer: httpx.Response) -> str:
    return answer.text + str(answer.headers)


def test_before_the_vote_nothing_names_a_model_and_after_it_all_is_known(
    api: httpx.Client, house: House, gateway: GatewayProcess
) -> None:
    created = api.post("/v1/comparisons", json={"models": [CHAT, CHAT_FAST]})
    comparison = created.json()
    assert comparison["models"] is None
    seen = [everything(created)]
    asked: dict[str, str] = {}
    for alias in comparison["aliases"]:
        whole = ask(api, alias)
        options = {"include_usage": True, "continuous_usage_stats": True}
        stream = ask(api, alias, stream=True, stream_options=options)
        refused = ask(api, alias, temperature=9)
        assert (whole.status_code, stream.status_code, refused.status_code) == (200, 200, 400)
        assert whole.json()["model"] == alias
        assert f'"model":"{alias}"' in stream.text
        asked[whole.headers["x-request-id"]] = alias
        seen += [everything(whole), everything(stream), everything(refused)]
    seen.append(everything(api.get(f"/v1/comparisons/{comparison['id']}")))
    assert not [name for name in NAMES for text in seen if name in text]

    voted = api.post(f"/v1/comparisons/{comparison['id']}/vote", json={"verdict": "B"}).json()
    assert sorted(voted["models"]) == [CHAT, CHAT_FAST]
    behind = dict(zip(voted["aliases"], voted["models"], strict=True))
    wait_until(lambda: {e.request_id for e in events(house.database)} >= set(asked))
    billed = {e.request_id: e.variant_id for e in events(house.database) if e.request_id in asked}
    assert billed == {request: behind[alias] for request, alias in asked.items()}

    again = api.post(f"/v1/comparisons/{comparison['id']}/vote", json={"verdict": "A"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    (pair,) = api.get("/v1/comparisons/tally").json()["pairs"]
    assert pair["models"] == [CHAT, CHAT_FAST]
    assert pair["wins"] == [int(name == voted["models"][1]) for name in pair["models"]]


def test_a_model_that_sleeps_is_refused_in_its_aliases_name(api: httpx.Client) -> None:
    comparison = compare(api, CHAT, ASLEEP)
    answers = {alias: ask(api, alias) for alias in comparison["aliases"]}
    assert sorted(answer.status_code for answer in answers.values()) == [200, 503]
    for alias, answer in answers.items():
        assert alias in answer.text
        assert not [name for name in NAMES if name in everything(answer)]


def test_the_order_is_drawn_by_lot(api: httpx.Client) -> None:
    orders = set()
    for _ in range(40):  # all alike once in 2^39
        one = compare(api, CHAT, CHAT_FAST)
        orders.add(tuple(api.post(f"/v1/comparisons/{one['id']}/vote", json={"verdict": "none"}).json()["models"]))
    assert orders == {(CHAT, CHAT_FAST), (CHAT_FAST, CHAT)}


def test_another_tenant_can_neither_ask_nor_vote(api: httpx.Client, house: House, gateway: GatewayProcess) -> None:
    comparison = compare(api, CHAT, CHAT_FAST)
    tenant = new_tenant(house.operator, "rival")
    with unit_of_work(house.operator) as session:
        key = create_key(session, tenant, "test", "tests")
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key.text}"}) as rival:
        wait_until(lambda: rival.get("/v1/models").status_code == 200)
        assert ask(rival, comparison["aliases"][0]).json()["error"]["code"] == "model_not_found"
        assert rival.post(f"/v1/comparisons/{comparison['id']}/vote", json={"verdict": "A"}).status_code == 404
        assert rival.get("/v1/comparisons/tally").json()["pairs"] == []


@pytest.mark.parametrize(
    ("models", "status"),
    [([CHAT], 400), ([CHAT, CHAT], 400), ([CHAT, EMBEDDING], 400), ([CHAT, "nothing"], 404), ([CHAT] * 5, 400)],
)
def test_what_cannot_be_compared_is_refused(api: httpx.Client, models: list[str], status: int) -> None:
    assert api.post("/v1/comparisons", json={"models": models}).status_code == status


def test_an_expired_alias_and_a_letter_too_many_are_refused(
    api: httpx.Client, house: House, gateway: GatewayProcess
) -> None:
    comparison = compare(api, CHAT, CHAT_FAST)
    too_many = api.post(f"/v1/comparisons/{comparison['id']}/vote", json={"verdict": "C"})
    assert too_many.status_code == 400
    assert ask(api, comparison["aliases"][0][:-1] + "C").status_code == 404
    with house.database.superuser() as connection:
        connection.execute(
            "update comparisons set expires_at = now() where id = %s",
            [ids.from_wire(ids.COMPARISON, comparison["id"])],
        )
    assert ask(api, comparison["aliases"][0]).json()["error"]["code"] == "model_not_found"
    compare(api, CHAT, CHAT_FAST)  # forgets what has expired without a vote
    assert api.get(f"/v1/comparisons/{comparison['id']}").status_code == 404


def test_a_vote_among_many_counts_against_each_of_the_others() -> None:
    found = tallied([(["b", "a", "c"], "A", 2), (["a", "b"], "A", 1), (["c", "b"], "tie", 3), (["b", "a"], "none", 1)])
    assert found == [
        PairTally(("b", "c"), (2, 0), 3, 0),
        PairTally(("a", "b"), (1, 2), 0, 1),
    ]
