"""Weights that operators push, and engines that they attach, through `/admin/v1`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.api import ApiRefused
from local.weights_push import push
from tests.admin.conftest import Office
from tests.admin.test_operators import ask, eventually
from tests.stub_engine import StubEngine

CHAT = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def office(shared_office: Office) -> Office:
    return shared_office


class TestWeights:
    def test_a_push_uploads_once_and_publishes_a_manifest(self, office: Office, tmp_path: Path) -> None:
        folder = model_folder(tmp_path)
        first = push(office.api, folder, CHAT, lambda _: None)
        said: list[str] = []
        second = push(office.api, folder, CHAT, said.append)
        assert first == second
        assert not [line for line in said if line.startswith("uploading")]

    def test_publishing_what_was_not_uploaded_is_refused(self, office: Office) -> None:
        body = {"files": [{"path": "model.safetensors", "size_bytes": 5, "sha256": "0" * 64}]}
        with pytest.raises(ApiRefused, match=r"model\.safetensors is missing in the object store"):
            office.api.post("/admin/v1/models/qwen3-32b/weights/publish", body)

    def test_a_path_out_of_the_folder_is_refused(self, office: Office) -> None:
        body = {"files": [{"path": "../../etc/passwd", "size_bytes": 5, "sha256": "0" * 64}]}
        with pytest.raises(ApiRefused, match="no path inside"):
            office.api.post(f"/admin/v1/models/{CHAT}/weights/uploads", body)

    def test_pickled_weights_are_refused_before_anything_is_sent(self, office: Office, tmp_path: Path) -> None:
        folder = model_folder(tmp_path)
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
        with pytest.raises(Exception, match="push safetensors"):
            push(office.api, folder, CHAT, lambda _: None)

    def test_an_unknown_model_has_no_weights(self, office: Office, tmp_path: Path) -> None:
        with pytest.raises(ApiRefused, match="`nosuch` does not exist"):
            push(office.api, model_folder(tmp_path), "nosuch", lambda _: None)


class TestAttachedEngines:
    def test_it_answers_once_attached_and_no_longer_when_detached(self, office: Office) -> None:
        with StubEngine() as stub:
            replica = office.api.post("/admin/v1/fleet/replicas", {"model": CHAT, "url": f"{stub.url}/v1/"})
            assert eventually(lambda: ask(office) == 200)
            with pytest.raises(ApiRefused, match="is a replica already"):
                office.api.post("/admin/v1/fleet/replicas", {"model": CHAT, "url": stub.url})
            office.api.delete(f"/admin/v1/fleet/replicas/{replica['id']}")
            assert eventually(lambda: ask(office) == 503)

    def test_by_command(self, office: Office) -> None:
        with StubEngine() as stub:
            attached = office.studio("fleet", "attach", "--model", CHAT, "--url", f"{stub.url}/v1", "--json")
            assert attached.returncode == 0, attached.stderr
            replica = json.loads(attached.stdout)
            assert (replica["model"], replica["url"], replica["kind"]) == (CHAT, stub.url, "attached")
            assert eventually(lambda: ask(office) == 200)
            assert replica["id"] in office.studio("fleet", "status").stdout, "whole, since it is what `detach` takes"
            detached = office.studio("fleet", "detach", replica["id"])
            assert (detached.returncode, detached.stdout) == (0, f"{replica['id']} is detached.\n")
            assert eventually(lambda: ask(office) == 503)
            refused = office.studio("fleet", "attach", "--model", CHAT, "--url", "http://127.0.0.1:9")
        assert (refused.returncode, "did not list its models" in refused.stderr) == (1, True)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"model": CHAT, "url": "http://127.0.0.1:9"}, "did not list its models"),
            ({"model": CHAT, "url": "file:///etc/passwd"}, "is no http"),
            ({"model": "nosuch", "url": "http://127.0.0.1:9"}, "does not exist"),
        ],
    )
    def test_an_engine_that_cannot_answer_is_not_attached(
        self, office: Office, body: dict[str, str], words: str
    ) -> None:
        with pytest.raises(ApiRefused, match=words):
            office.api.post("/admin/v1/fleet/replicas", body)


def model_folder(parent: Path) -> Path:
    folder = parent / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 100_000)
    return folder
