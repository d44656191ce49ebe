"""What every route owes to clients beneath the API: methods, headers, bodies of all kinds, browsers."""

from __future__ import annotations

import contextlib
import gzip
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
JSON = {"content-type": "application/json"}


def raw(content: str) -> bytes:
    """A chat whose one message is this JSON."""
    return f'{{"model":"{CHAT}","max_tokens":1,"messages":[{{"role":"user","content":{content}}}]}}'.encode()


def assert_envelope(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert all(isinstance(error[name], str) for name in ("message", "type", "code"))


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"null", b"[]", b'"text"', b"7", b"{", b"\xff\xfe", b"{}", b"[" * 2_000 + b"]" * 2_000),
            raw('"\\ud800"'),
            raw('"a\nb"'),
            raw('"\\x"'),
            raw("NaN"),
            raw('[{"type":"text","text":"a","b":' + "[" * 900 + "]" * 900 + "}], " + '"x":' + "[" * 300 + "]" * 300),
            b'{"n":1e999,' + raw('"a"')[1:],
            b'{"n":' + b"9" * 400 + b"," + raw('"a"')[1:],
        ],
    )
    def test_what_is_no_request_is_400(self, api: httpx.Client, body: bytes) -> None:
        assert_envelope(api.post(PATH, content=body, headers=JSON), 400)

    @pytest.mark.parametrize("content", ['"\\u0000"', '"\\ud83d\\ude00"', '"\U0001f600"', '"' + "a" * 100_000 + '"'])
    def test_unusual_texts_are_texts(self, api: httpx.Client, content: str) -> None:
        assert api.post(PATH, content=raw(content), headers=JSON).status_code == 200

    def test_of_a_key_that_comes_twice_the_last_counts_everywhere(self, api: httpx.Client) -> None:
        body = b'{"model":"gpt-17",' + raw('"a"')[1:]
        response = api.post(PATH, content=body, headers=JSON)
        assert (response.status_code, response.json()["model"]) == (200, CHAT)

    def test_it_may_come_in_chunks(self, api: httpx.Client) -> None:
        def pieces() -> Iterator[bytes]:
            for byte in orjson.dumps(BODY):
                yield bytes([byte])

        assert api.post(PATH, content=pieces(), headers=JSON).status_code == 200

    def test_a_huge_one_in_chunks_is_413(self, api: httpx.Client) -> None:
        pieces = (b"x" * (1 << 20) for _ in range(40))
        try:
            response = api.post(PATH, content=pieces, headers=JSON)
        except httpx.WriteError:
            return  # the refusal closed the connection before everything was written
        assert_envelope(response, 413)

    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd"])
    def test_a_compressed_one_is_415(self, api: httpx.Client, encoding: str) -> None:
        packed = gzip.compress(orjson.dumps(BODY))
        assert_envelope(api.post(PATH, content=packed, headers=JSON | {"content-encoding": encoding}), 415)

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", None])
    def test_its_type_may_be_written_in_all_ways(self, api: httpx.Client, kind: str | None) -> None:
        headers = {} if kind is None else {"content-type": kind}
        assert api.post(PATH, content=orjson.dumps(BODY), headers=headers).status_code == 200

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
    def test_another_type_is_415(self, api: httpx.Client, kind: str) -> None:
        assert_envelope(api.post(PATH, content=orjson.dumps(BODY), headers={"content-type": kind}), 415)

    def test_who_asks_first_is_told_to_continue(self, gateway: GatewayProcess, house: House) -> None:
        body = orjson.dumps(BODY)
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {house.key.text}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
            connection.sendall(head.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
            connection.sendall(body)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


class TestMethods:
    @pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/embeddings", "/v1/messages"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_a_wrong_one_is_405_and_names_the_right_one(self, api: httpx.Client, path: str, method: str) -> None:
        response = api.request(method, path)
        assert response.status_code == 405
        assert response.headers["allow"] == "POST"
        assert response.headers["content-type"] == "application/json"

    @pytest.mark.parametrize(("path", "status"), [("/", 200), ("/v1/models", 200), ("/v1/models/x", 404), ("/x", 404)])
    def test_whoever_only_looks_is_told_as_much_without_a_body(self, api: httpx.Client, path: str, status: int) -> None:
        """As those do who watch whether a site is up."""
        looked, got = api.head(path), api.get(path)
        assert (looked.status_code, got.status_code) == (status, status)
        assert looked.content == b""
        assert looked.headers["content-length"] == got.headers["content-length"]

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
    @pytest.mark.parametrize(
        "path",
        [
            *("/v1", "/v1/", "/v2/chat/completions", "/chat/completions", "/v1/chat", "/v1/chat/completions/x"),
            *("/tokenizer_info", "/inference/v1/generate", "/sleep", "/collective_rpc", "/scale_elastic_ep"),
            *("/generative_scoring", "/kv_event_sources", "/load", "/v1/unload_lora_adapter", "/%00", "/..%2f"),
        ],
    )
    def test_an_unknown_path_is_404(self, api: httpx.Client, method: str, path: str) -> None:
        assert_envelope(api.request(method, path), 404)

    def test_a_slash_at_the_end_is_no_redirect(self, api: httpx.Client) -> None:
        for path in ("/v1/chat/completions/", "/v1//chat/completions"):
            assert api.post(path, json=BODY).status_code == 200
        assert api.get("/v1/models/").status_code == 200


class TestHeaders:
    def test_each_answer_says_how_long_it_took(self, api: httpx.Client) -> None:
        for response in (api.post(PATH, json=BODY), api.post(PATH, json={}), api.get("/v1/models"), api.get("/none")):
            assert int(response.headers["openai-processing-ms"]) >= 0

    @pytest.mark.parametrize("value", ["a", "x" * 3_000, "req_1; drop", "\u00e9"])
    def test_a_clients_own_request_id_names_nothing(self, api: httpx.Client, value: str) -> None:
        names = (b"x-request-id", b"x-client-request-id", b"x-data-parallel-rank", b"openai-organization")
        response = api.post(PATH, json=BODY | {"request_id": "mine"}, headers=dict.fromkeys(names, value.encode()))
        assert response.status_code == 200
        assert response.headers["x-request-id"] == "req_" + response.json()["id"].removeprefix("chatcmpl-")
        assert value not in response.headers.values()

    def test_the_engine_is_not_named(self, api: httpx.Client) -> None:
        assert "server" not in api.post(PATH, json=BODY).headers

    def test_a_browser_may_read_what_an_sdk_reads(self, api: httpx.Client) -> None:
        for path in (PATH, "/v1/messages"):
            headers = api.post(path, json=BODY, headers={"origin": "https://example.com"}).headers
            assert headers["access-control-allow-origin"] == "*"
            exposed = set(headers["access-control-expose-headers"].split(", "))
            assert {"x-request-id", "retry-after", "retry-after-ms", "openai-processing-ms"} <= exposed
            for kind in ("requests", "tokens"):
                assert {f"x-ratelimit-{one}-{kind}" for one in ("limit", "remaining", "reset")} <= exposed

    @pytest.mark.parametrize("path", [PATH, "/v1/models", "/v1/files", "/v1/messages", "/none"])
    def test_a_preflight_is_always_answered(self, stranger: httpx.Client, path: str) -> None:
        wanted = "authorization, content-type, idempotency-key, openai-organization, x-stainless-lang, x-api-key"
        headers = {
            "origin": "https://example.com",
            "access-control-request-method": "POST",
            "access-control-request-headers": wanted,
        }
        response = stranger.options(path, headers=headers)
        assert response.status_code == 204
        assert response.headers["access-control-allow-headers"] == wanted
        assert "POST" in response.headers["access-control-allow-methods"]

    @pytest.mark.parametrize(
        "authorization", ["", "Bearer", "Basic abc", "bearer \u00e9", "Bearer xpu_a b", "Bearer " + "x" * 9_000]
    )
    def test_a_key_that_is_none_is_401(self, stranger: httpx.Client, authorization: str) -> None:
        headers = {b"authorization": authorization.encode()}
        response = stranger.post(PATH, json=BODY, headers=headers)
        assert_envelope(response, 401)
        assert response.json()["error"]["code"] == "invalid_api_key"


class TestHttp:
    def exchange(self, gateway: GatewayProcess, *parts: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """Status line, headers and body of the one answer on a connection of its own."""
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            for part in parts:
                connection.sendall(part)
            answer = connection.makefile("rb").read()
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        return status, dict(line.split(b": ", 1) for line in lines), body

    def request(self, house: House, version: str, body: dict[str, Any], *headers: str) -> tuple[bytes, bytes]:
        """Head and body of a chat."""
        content = orjson.dumps(body)
        lines = (
            *(f"POST {PATH} HTTP/{version}", "host: gateway", f"authorization: Bearer {house.key.text}"),
            *("content-type: application/json", f"content-length: {len(content)}", *headers, "", ""),
        )
        return "\r\n".join(lines).encode(), content

    def test_who_would_rather_speak_http_2_is_answered_in_http_1(self, gateway: GatewayProcess, house: House) -> None:
        """As Java's own client asks with each request to a plain address."""
        wish = ("connection: Upgrade, HTTP2-Settings, close", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAB")
        head, body = self.request(house, "1.1", BODY, *wish)
        for parts in ((head, body), (head + body,), (head[:-3], head[-3:] + body[:9], body[9:])):
            status, _, answer = self.exchange(gateway, *parts)
            assert status == b"HTTP/1.1 200 OK"
            assert orjson.loads(answer)["usage"]["completion_tokens"] == 1

    def test_a_stream_over_http_1_0_has_no_chunks_in_it(self, gateway: GatewayProcess, house: House) -> None:
        parts = self.request(house, "1.0", BODY | {"stream": True})
        status, headers, body = self.exchange(gateway, *parts)
        assert status == b"HTTP/1.1 200 OK"
        assert b"transfer-encoding" not in headers
        assert headers[b"connection"] == b"close"
        events = body.split(b"\n\n")
        assert all(event.startswith(b"data: ") for event in events[:-1])
        assert events[-2:] == [b"data: [DONE]", b""]

    @pytest.mark.parametrize(
        "lines",
        [
            b"\x16\x03\x01\x02\x00",  # TLS on the plain port
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
            b"GET /v1/models/a b HTTP/1.1\r\nhost: a\r\n\r\n",
            b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        ],
    )
    def test_what_is_no_http_is_told_in_the_envelope(self, gateway: GatewayProcess, lines: bytes) -> None:
        status, headers, body = self.exchange(gateway, lines)
        assert status == b"HTTP/1.1 400 Bad Request"
        assert headers[b"x-request-id"].startswith(b"req_")
        assert orjson.loads(body)["error"].keys() == {"message", "type", "param", "code"}

    def test_a_body_whose_chunks_are_none_is_told_so(self, gateway: GatewayProcess, house: House) -> None:
        head, _ = self.request(house, "1.1", BODY)
        head = head.replace(b"content-length", b"transfer-encoding: chunked\r\nx-length")
        status, _, body = self.exchange(gateway, head + b"zz\r\n{}")
        assert status == b"HTTP/1.1 400 Bad Request"
        assert "chunk" in orjson.loads(body)["error"]["message"]

    def test_headers_without_end_are_not_read_to_their_end(self, gateway: GatewayProcess) -> None:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nx-a: ")
            with contextlib.suppress(ConnectionError):  # it has been told, and still writes
                for _ in range(1_000):
                    connection.sendall(b"a" * 10_000)
                pytest.fail("ten million bytes were taken")
