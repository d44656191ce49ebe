"""A model's id may have a slash, as in `vendor/name`: in paths, in bodies and in what is billed."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx

from studio.catalog.sync import sync_catalog
from studio.db.sessions import engine_for, unit_of_work
from studio.settings import REPOSITORY
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, attach, wait_until
from tests.serving.ledger import events
from tests.stub_engine import StubEngine


def test_a_model_may_be_named_after_its_vendor(
    api: httpx.Client, stranger: httpx.Client, house: House, engine: StubEngine, tmp_path: Path
) -> None:
    name, folder = "vendor.io/tiny-chat", tmp_path / "catalog"
    shutil.copytree(REPOSITORY / "catalog", folder)
    declared = (folder / "models" / f"{CHAT}.yaml").read_text().replace(f"id: {CHAT}", f"id: {name}")
    (folder / "models" / "vendor.io--tiny-chat.yaml").write_text(declared)
    worker = engine_for(house.database.url("worker"))
    with unit_of_work(worker) as session:
        sync_catalog(session, folder, "local")
    worker.dispose()
    attach(house.operator, engine.url, name)
    wait_until(lambda: name in {model["id"] for model in api.get("/v1/models").json()["data"]})
    for path in (name, name.replace("/", "%2F")):
        wait_until(lambda path=path: api.get(f"/v1/models/{path}").json()["state"] == "warm")
        assert api.get(f"/v1/models/{path}").json()["id"] == name
    sold = stranger.get("/v1/catalog").json()["models"]
    assert name in {tier["id"] for model in sold for tier in model["tiers"]}

    asked = {"model": name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    answer = api.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == name
    request = answer.headers["x-request-id"]
    wait_until(lambda: [one.variant_id for one in events(house.database) if one.request_id == request] == [name])
    embedded = api.post("/v1/embeddings", json={"model": name, "input": "hello"})
    assert (embedded.status_code, embedded.json()["error"]["param"]) == (400, "model")
    assert api.get("/v1/models/vendor.io").status_code == 404
