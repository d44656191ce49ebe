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
from tests.serving.gateway_process import EMBEDDING, wait_until

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
