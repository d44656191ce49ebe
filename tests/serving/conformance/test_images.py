"""Images through the whole gateway, with clients' own words."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, attach, wait_until
from tests.stub_engine import StubEngine

SEEING = "qwen2.5-vl-7b"
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\npixels").decode()


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
