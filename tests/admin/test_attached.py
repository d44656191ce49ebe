"""Engines that somebody else runs and that ask for a key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from local.api import ApiRefused
from tests.admin.conftest import Office
from tests.serving.gateway_process import CHAT, EMBEDDING, wait_until
from tests.serving.odd_engine import DONE, STREAM, Caller, chunk, closing, odd_engine, whole

KEY = "sk-theirs-0123456789"
VECTOR = {
    "object": "list",
    "model": "their-model",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}


@dataclass(slots=True)
class KeyedEngine:
    """Answers who knows the key, and remembers which paths it was asked for."""

    url: str
    key: str = KEY
    paths: set[str] = field(default_factory=set)


@contextmanager
def keyed_engine() -> Iterator[KeyedEngine]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer({"object": "list", "data": [{"id": "their-model"}, {"id": "another"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(VECTOR)

        def answer(self, content: dict[str, Any]) -> None:
            is_known = self.headers["authorization"] == f"Bearer {engine.key}"
            if is_known:
                engine.paths.add(self.path)
            body = json.dumps(content if is_known else {"error": "Unauthorized"}).encode()
            self.send_response(200 if is_known else 401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    engine = KeyedEngine(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def embed(office: Office) -> httpx.Response:
    return httpx.post(
        f"{office.gateway.url}/v1/embeddings",
        headers={"authorization": f"Bearer {office.customer_key}"},
        json={"model": EMBEDDING, "input": "hello"},
        trust_env=False,
    )


def attach(office: Office, engine: KeyedEngine, **more: object) -> dict[str, Any]:
    body = {"model": EMBEDDING, "url": engine.url, "engine_key": KEY} | more
    replica: dict[str, Any] = office.api.post("/admin/v1/fleet/replicas", body)
    return replica


def test_its_key_is_sent_to_it_and_kept_from_everybody_else(office: Office) -> None:
    with keyed_engine() as engine:
        replica = attach(office, engine, max_num_seqs=64)
        assert (replica["has_key"], replica["max_num_seqs"]) == (True, 64)
        wait_until(lambda: embed(office).status_code == 200)
        wait_until(lambda: "/health" in engine.paths)
        with office.database.superuser() as connection:
            (sealed,) = connection.execute("select sealed from engine_keys").fetchone() or (b"",)
            audited = connection.execute("select details::text from audit_log").fetchall()
        assert len(sealed) > len(KEY)
        shown = json.dumps([replica, office.api.get("/admin/v1/fleet")])
        for text in (sealed.decode("latin-1"), str(audited), shown, office.gateway.log_path.read_text()):
            assert KEY not in text
        office.api.delete(f"/admin/v1/fleet/replicas/{replica['id']}")
        with office.database.superuser() as connection:
            assert connection.execute("select * from engine_keys").fetchall() == []


def test_one_that_no_longer_knows_our_key_costs_callers_a_refusal_and_no_riddle(office: Office) -> None:
    with keyed_engine() as engine:
        replica = attach(office, engine)
        wait_until(lambda: embed(office).status_code == 200)
        engine.key = "changed"
        refused = embed(office)
        office.api.delete(f"/admin/v1/fleet/replicas/{replica['id']}")
    assert refused.status_code == 503
    assert "No replica" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"engine_key": None}, "asks for a key"),
        ({"engine_key": "sk-wrong"}, "refused this key"),
        ({"engine_key": "two words"}, "visible ASCII"),
        ({"engine_model": "nosuch"}, "serves their-model, another"),
        ({"max_num_seqs": 0}, "greater than 0"),
    ],
)
def test_what_cannot_work_is_not_attached(office: Office, more: dict[str, object], words: str) -> None:
    with keyed_engine() as engine, pytest.raises(ApiRefused, match=words):
        attach(office, engine, **more)


def refusing(message: str) -> bytes:
    """As vLLM refuses."""
    body = json.dumps({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}).encode()
    return (
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )


def without_usage(answer: bytes) -> bytes:
    """The same, as long, by an engine that counts nothing."""
    return answer.replace(b'"usage"', b'"useds"')


CHAT_WHOLE = whole("length", 2)
RUNNING = STREAM + chunk(1, content="a") + chunk(2, finish="length", content="b") + closing(2) + DONE
AT_THE_END = STREAM + chunk(None, content="a") + chunk(None, finish="length") + closing(2) + DONE
NOWHERE = STREAM + chunk(None, content="a") + chunk(None, finish="length") + DONE
FCFS = "Got priority 1 but Priority scheduling is not enabled."


@contextmanager
def engine_that_says(answer: bytes, stream: bytes) -> Iterator[str]:
    """To each chat, after it has seen that it is asked as callers will ask it."""

    def script(body: dict[str, Any], caller: Caller) -> None:
        assert (body["priority"], bool(body["cache_salt"])) == (1, True)
        caller.send(stream if body.get("stream") else answer)

    with odd_engine(script) as url:
        yield url


@pytest.mark.parametrize(("stream", "metering"), [(RUNNING, "running"), (AT_THE_END, "end")])
def test_how_it_will_be_metered_is_said_when_it_is_attached(office: Office, stream: bytes, metering: str) -> None:
    with engine_that_says(CHAT_WHOLE, stream) as url:
        replica = office.api.post("/admin/v1/fleet/replicas", {"model": CHAT, "url": url})
        assert replica["metering"] == metering
        office.api.delete(f"/admin/v1/fleet/replicas/{replica['id']}")


@pytest.mark.parametrize(
    ("answer", "stream", "words"),
    [
        (CHAT_WHOLE, NOWHERE, "streams at /v1/chat/completions tell no `usage`"),
        (without_usage(CHAT_WHOLE), RUNNING, "answers at /v1/chat/completions have no `usage`"),
        (
            CHAT_WHOLE.replace(b'"completion_tokens":2', b'"completion_tokens":0'),
            RUNNING,
            "3 tokens read and 0 written",
        ),
        (CHAT_WHOLE, RUNNING.removesuffix(DONE), r"do not end with `data: \[DONE\]`"),
        (CHAT_WHOLE, STREAM + b"data: what\n\n" + DONE, "streams at /v1/chat/completions cannot be read"),
        (CHAT_WHOLE, b"", "did not answer a short request"),
        (refusing(FCFS), RUNNING, "Start it with `--scheduling-policy priority`"),
    ],
)
def test_what_could_not_be_metered_is_not_attached(office: Office, answer: bytes, stream: bytes, words: str) -> None:
    with engine_that_says(answer, stream) as url, pytest.raises(ApiRefused, match=words):
        office.api.post("/admin/v1/fleet/replicas", {"model": CHAT, "url": url})
    assert all(replica["url"] != url for replica in office.api.get("/admin/v1/fleet")["replicas"])


def test_a_password_in_the_url_is_refused_without_being_repeated(office: Office) -> None:
    body = {"model": EMBEDDING, "url": "http://me:geheim@127.0.0.1:9"}
    with pytest.raises(ApiRefused, match="must not hold a password") as refused:
        office.api.post("/admin/v1/fleet/replicas", body)
    assert "geheim" not in refused.value.message


def test_what_a_driver_says_of_a_clusters_pods_is_for_operators_alone(office: Office) -> None:
    said = "engine: ImagePullBackOff: cr.metax-tech.com/vllm: not found"
    with office.database.superuser() as connection:
        row = "insert into engine_pods values (%s, 'stuck', 'image', %s, '2026-11-30 07:31+01', null, now())"
        connection.execute(row, (EMBEDDING, said))
        connection.execute("insert into cluster_contact values (1, '2026-11-30 07:40+01', 'refused')")
    report = office.api.get("/admin/v1/fleet")
    (pods,) = report["pods"]
    assert (pods["model"], pods["state"], pods["trouble"], pods["said"]) == (EMBEDDING, "stuck", "image", said)
    assert pods["since"] == "2026-11-30T06:31:00Z"
    assert report["cluster_away_since"] == "2026-11-30T06:40:00Z"
    with office.database.superuser() as connection:
        connection.execute("delete from engine_pods")
        connection.execute("delete from cluster_contact")
