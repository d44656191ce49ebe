"""What every route has in common: keys, envelopes, request ids, CORS, limits."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest

from serving.shipper import HEARTBEAT
from studio import api_keys, clock
from studio.db.sessions import unit_of_work
from studio.tenants import create_key, revoke_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, EMBEDDING, GatewayProcess, wait_until

ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/score"),
    ("POST", "/v1/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/images/generations"),
    ("GET", "/v1/models"),
    ("GET", f"/v1/models/{CHAT}"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/usage/storage"),
    ("GET", "/v1/usage/gpu-hours"),
    ("GET", "/v1/slo"),
    ("GET", "/v1/limits"),
    ("GET", "/v1/limits/explain/req_0"),
]
BODY: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}


def assert_envelope(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert response.headers["x-request-id"].startswith("req_")


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
class TestStrangers:
    def test_without_a_key_is_401(self, stranger: httpx.Client, method: str, path: str) -> None:
        assert_envelope(stranger.request(method, path), 401, "invalid_api_key")

    def test_with_an_unknown_key_is_401(self, stranger: httpx.Client, method: str, path: str) -> None:
        headers = bearer(api_keys.mint().text)
        assert_envelope(stranger.request(method, path, headers=headers), 401, "invalid_api_key")

    def test_with_a_mistyped_key_is_401(self, stranger: httpx.Client, method: str, path: str) -> None:
        headers = bearer("xpu_short")
        assert_envelope(stranger.request(method, path, headers=headers), 401, "invalid_api_key")


class TestKeys:
    def test_a_revoked_key_is_refused_within_a_second(self, api: httpx.Client, house: House) -> None:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "short-lived", "tests")
        wait_until(lambda: api.get("/v1/models", headers=bearer(key.text)).status_code == 200, seconds=1)
        with unit_of_work(house.operator) as session:
            revoke_key(session, key.id, "tests")
        wait_until(lambda: api.get("/v1/models", headers=bearer(key.text)).status_code == 401, seconds=1)

    def test_a_key_that_has_expired_is_401_and_says_so(self, api: httpx.Client, house: House) -> None:
        ends = clock.now() + timedelta(seconds=3)
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "trial", "tests", expires_at=ends)

        def asked() -> httpx.Response:
            return api.post("/v1/chat/completions", json=BODY, headers=bearer(key.text))

        wait_until(lambda: asked().status_code == 200)
        wait_until(lambda: asked().status_code == 401)
        assert clock.now() >= ends
        assert_envelope(asked(), 401, "invalid_api_key")
        # "This API key expired at", until it is out of the snapshot.
        assert "expired" in asked().json()["error"]["message"]

    def test_a_key_without_the_scope_is_403(self, api: httpx.Client, house: House) -> None:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "reports", "tests", scopes=["usage"])
        wait_until(lambda: api.get("/v1/usage", headers=bearer(key.text)).status_code == 200, seconds=1)
        for method, path in ROUTES[:9]:
            assert_envelope(api.request(method, path, headers=bearer(key.text)), 403, "permission_denied")


class TestRateLimit:
    def test_more_than_the_limit_is_429_and_says_when(self, api: httpx.Client, house: House) -> None:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "slow", "tests", requests_per_second=2)
        headers = bearer(key.text)
        wait_until(lambda: api.get("/v1/models", headers=headers).status_code == 200, seconds=1)
        answers = [api.post("/v1/chat/completions", json=BODY, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers.get("x-ratelimit-remaining-requests") for answer in answers[:2]] == ["1", "0"]
        assert_envelope(answers[2], 429, "rate_limit_exceeded")
        assert int(answers[2].headers["retry-after"]) == 1
        told = api.get(f"/v1/limits/explain/{answers[2].headers['x-request-id']}", headers=headers).json()
        assert (told["counted"], told["limits"][0]["kind"]) == ("alone", "requests_per_second")
        time.sleep(int(answers[2].headers["retry-after-ms"]) / 1000)
        assert api.post("/v1/chat/completions", json=BODY, headers=headers).status_code == 200

    def test_a_key_without_limits_has_none_to_show(self, api: httpx.Client) -> None:
        assert api.get("/v1/limits").json() == {"object": "list", "counted": "alone", "data": []}
        assert_envelope(api.get("/v1/limits/explain/req_0"), 404, "not_found")


class TestEnvelopes:
    def test_an_unknown_path(self, api: httpx.Client) -> None:
        assert_envelope(api.get("/v1/nothing"), 404, "not_found")

    def test_engine_paths_are_not_reachable(self, api: httpx.Client) -> None:
        for path in ("/metrics", "/health/ready", "/invocations", "/rerank", "/v1/load_lora_adapter"):
            assert_envelope(api.get(path), 404, "not_found")

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/tokenize", "/v1/rerank"])
    def test_a_wrong_method(self, api: httpx.Client, path: str) -> None:
        response = api.put(path)
        assert_envelope(response, 405, "method_not_allowed")
        assert response.headers["allow"] in ("POST", "GET")

    def test_a_wrong_query_is_400(self, api: httpx.Client) -> None:
        response = api.get("/v1/usage?start=yesterday")
        assert_envelope(response, 400, "invalid_request")
        assert response.json()["error"]["param"] == "start"

    def test_a_huge_body_is_413(self, api: httpx.Client) -> None:
        response = api.post("/v1/chat/completions", json=BODY | {"user": "x" * (33 << 20)})
        assert_envelope(response, 413, "payload_too_large")

    def test_another_content_type_is_415(self, api: httpx.Client) -> None:
        response = api.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
        assert_envelope(response, 415, "unsupported_media_type")

    def test_the_connection_lives_on_after_an_error(self, api: httpx.Client) -> None:
        for _ in range(3):
            assert api.post("/v1/chat/completions", json={}).status_code == 400
            assert api.post("/v1/chat/completions", json=BODY).status_code == 200

    def test_a_doubled_slash_is_forgiven(self, api: httpx.Client) -> None:
        assert api.get("/v1//models").status_code == 200
        assert api.post("/v1/chat/completions/", json=BODY).status_code == 200


class TestBrowsers:
    def test_a_preflight_needs_no_key(self, stranger: httpx.Client) -> None:
        headers = {
            "origin": "https://example.com",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, x-stainless-os",
        }
        response = stranger.options("/v1/chat/completions", headers=headers)
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["access-control-allow-headers"] == "authorization, x-stainless-os"

    def test_an_answer_may_be_read(self, api: httpx.Client) -> None:
        response = api.post("/v1/chat/completions", json=BODY, headers={"origin": "https://example.com"})
        assert response.headers["access-control-allow-origin"] == "*"
        assert "x-request-id" in response.headers["access-control-expose-headers"]


class TestModels:
    def test_the_list_is_the_catalog(self, sdk: openai.OpenAI) -> None:
        models = {model.id: model for model in sdk.models.list()}
        assert {CHAT, EMBEDDING, "qwen3-32b", "qwen3-32b-fast"} <= models.keys()
        extra = models[CHAT].model_extra
        assert extra is not None
        assert (extra["state"], extra["eta_seconds"], extra["tier"]) == ("warm", 0, "base")
        assert models["qwen3-32b"].model_extra is not None
        assert models["qwen3-32b"].model_extra["state"] == "not_deployed"

    def test_one_is_the_same_as_in_the_list(self, sdk: openai.OpenAI) -> None:
        listed = next(model for model in sdk.models.list() if model.id == CHAT)
        assert sdk.models.retrieve(CHAT) == listed

    @pytest.mark.parametrize("path", ["a/b/c", "a%2Fb", "gpt-17"])
    def test_an_unknown_one_is_404(self, api: httpx.Client, path: str) -> None:
        assert_envelope(api.get(f"/v1/models/{path}"), 404, "model_not_found")


class TestUsage:
    def test_it_is_the_tenants_own(self, gateway: GatewayProcess, api: httpx.Client, house: House) -> None:
        other = new_tenant(house.operator, "other")
        with unit_of_work(house.operator) as session:
            key = create_key(session, other, "test", "tests")
        headers = bearer(key.text)
        wait_until(lambda: api.get("/v1/usage", headers=headers).status_code == 200, seconds=1)
        assert api.get("/v1/usage", headers=headers).json()["data"] == []
        for tokens in (3, 4):
            api.post("/v1/chat/completions", json=BODY | {"max_tokens": tokens}, headers=headers)
        wait_until(lambda: gateway.health()["usage_pending"] == 0)
        (row,) = api.get("/v1/usage", headers=headers).json()["data"]
        assert (row["model"], row["requests"], row["completion_tokens"]) == (CHAT, 2, 7)

    def test_a_span_backwards_is_400(self, api: httpx.Client) -> None:
        assert_envelope(api.get("/v1/usage?start=2026-02-01&end=2026-01-01"), 400, "invalid_request")

    @pytest.mark.parametrize("query", ["end=0001-01-05", "start=0001-01-05", "end=9999-12-31"])
    def test_days_at_the_ends_of_the_calendar_are_refused(self, api: httpx.Client, query: str) -> None:
        refused = api.get(f"/v1/usage?{query}")
        assert_envelope(refused, 400, "invalid_request")
        assert refused.json()["error"]["param"] == query.partition("=")[0]


class TestEmbeddings:
    @pytest.mark.parametrize("given", ["one text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
    def test_all_four_shapes_of_input(self, sdk: openai.OpenAI, given: Any) -> None:
        answer = sdk.embeddings.create(model=EMBEDDING, input=given)
        assert answer.model == EMBEDDING
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0

    @pytest.mark.parametrize("given", ["", [], ["a", ""], [[]], [1, "a"], [-1]])
    def test_an_empty_or_mixed_input_is_400(self, api: httpx.Client, given: Any) -> None:
        response = api.post("/v1/embeddings", json={"model": EMBEDDING, "input": given})
        assert_envelope(response, 400, "invalid_request")
        assert response.json()["error"]["param"] == "input"

    def test_with_a_chat_model_is_400(self, api: httpx.Client) -> None:
        assert_envelope(api.post("/v1/embeddings", json={"model": CHAT, "input": "x"}), 400, "invalid_request")


class TestPages:
    def test_the_first_page_shows_states_and_loads_nothing(self, stranger: httpx.Client) -> None:
        page = stranger.get("/")
        assert page.status_code == 200
        assert CHAT in page.text
        assert 'class="state warm"' in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "<script" not in page.text

    def test_the_document_names_every_endpoint(self, stranger: httpx.Client) -> None:
        document = stranger.get("/openapi.json").json()
        assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"} <= document["paths"].keys()
        assert {"/v1/rerank", "/v1/score", "/v1/tokenize", "/detokenize"} <= document["paths"].keys()
        assert {"/v1/moderations", "/v1/images/generations", "/v1/uploads"} <= document["paths"].keys()
        assert "ChatRequest" in document["components"]["schemas"]

    def test_health_and_metrics_are_internal(self, gateway: GatewayProcess, api: httpx.Client) -> None:
        api.post("/v1/chat/completions", json=BODY)
        assert gateway.health()["database"] == "connected"
        wait_until(lambda: gateway.health()["usage_pending"] == 0, seconds=HEARTBEAT.total_seconds())
        exposition = httpx.get(f"{gateway.internal_url}/metrics").text
        assert f'studio_requests_total{{model="{CHAT}",status="200",tier="base",variant="{CHAT}"}}' in exposition


class TestStrangersBodies:
    """What somebody without a key sends is not taken in without bounds, whichever route it is for."""

    @pytest.mark.parametrize("path", ["/v1/keys", "/v1/batches", "/v1/uploads", "/v1/chat/completions"])
    def test_a_body_of_unknown_length_is_bounded(self, stranger: httpx.Client, path: str) -> None:
        pieces = (b"x" * (1 << 20) for _ in range(40))
        response = stranger.post(path, content=pieces, headers={"content-type": "application/json"})
        if path == "/v1/chat/completions":
            assert_envelope(response, 401, "invalid_api_key")  # nothing of it was read
        else:
            assert_envelope(response, 413, "payload_too_large")

    def test_a_body_that_says_how_large_it_is_is_refused_in_our_envelope(self, stranger: httpx.Client) -> None:
        response = stranger.post("/v1/batches", content=b"x" * (33 << 20), headers={"content-type": "application/json"})
        assert_envelope(response, 413, "payload_too_large")
