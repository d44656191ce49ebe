"""Images through the whole gateway, with clients' own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest

from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, attach, wait_until
from tests.serving.images import pictures
from tests.stub_engine import StubEngine

SEEING = "qwen2.5-vl-7b"
PNG = pictures.data_url(pictures.png(16, 16))


@pytest.fixture
def seeing(house: House, engine: StubEngine, api: httpx.Client) -> str:
    """A model that reads images, and a replica that answers for it."""
    if api.get(f"/v1/models/{SEEING}").json()["state"] != "warm":
        attach(house.operator, engine.url, SEEING)
        wait_until(lambda: api.get(f"/v1/models/{SEEING}").json()["state"] == "warm")
    return SEEING


def look(api: httpx.Client, model: str, url: str, **part: Any) -> httpx.Response:
    parts = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": url}} | part]
    body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}
    return api.post("/v1/chat/completions", json=body)


def test_a_model_that_sees_is_handed_the_image(api: httpx.Client, seeing: str) -> None:
    assert api.get(f"/v1/models/{seeing}").json()["vision"] is True
    assert look(api, seeing, PNG).status_code == 200


def test_a_model_that_does_not_see_says_so(api: httpx.Client) -> None:
    error = look(api, CHAT, PNG).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "messages[0].content[1].image_url")
    assert "does not read images" in error["message"]


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/a.png", "file:///etc/passwd", "https://localhost/", "https://127.0.0.1:18100/metrics"),
        *("https://169.254.169.254/latest/meta-data", "https://[::1]/", "https://10.0.0.1/", "data:text/plain,x"),
    ],
)
def test_nothing_inside_our_network_can_be_asked(api: httpx.Client, seeing: str, url: str) -> None:
    response = look(api, seeing, url)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_image_url"
    blocks = [{"type": "image", "source": {"type": "url", "url": url}}]
    body = {"model": seeing, "max_tokens": 1, "messages": [{"role": "user", "content": blocks}]}
    assert api.post("/v1/messages", json=body).json()["error"]["type"] == "invalid_request_error"


def test_one_that_unpacks_to_too_much_is_refused(api: httpx.Client, seeing: str) -> None:
    error = look(api, seeing, pictures.data_url(pictures.png(50_000, 50_000))).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_image_url", "messages[0].content[1].image_url")
    assert "40,000,000 are allowed" in error["message"]


@contextmanager
def with_credit(api: httpx.Client, house: House, credit: str) -> Iterator[httpx.Client]:
    """A client with a key of its own. An image is reserved as a whole context, which is 0.0026 EUR of this model."""
    with unit_of_work(house.operator) as session:
        key = create_key(session, house.tenant_id, f"credit of {credit}", "tests")
        session.flush()
        put_budget(session, house.tenant_id, key.id, "prepaid", Decimal(credit), "tests")
    headers = {"authorization": f"Bearer {key.text}"}
    with httpx.Client(base_url=api.base_url, headers=headers, timeout=20) as client:
        wait_until(lambda: client.get("/v1/models").status_code == 200)
        yield client


def test_nothing_is_fetched_for_a_caller_without_money(api: httpx.Client, house: House, seeing: str) -> None:
    with with_credit(api, house, "0.001") as poor:
        for url in (PNG, "https://169.254.169.254/"):
            assert look(poor, seeing, url).json()["error"]["code"] == "credit_balance_exhausted"


def test_a_refused_image_gives_its_money_back(api: httpx.Client, house: House, seeing: str) -> None:
    with with_credit(api, house, "0.003") as client:
        for _ in range(3):
            assert look(client, seeing, "https://169.254.169.254/").json()["error"]["code"] == "invalid_image_url"
        answer = look(client, seeing, PNG)
        assert (answer.status_code, answer.elapsed.total_seconds() < 2) == (200, True)
