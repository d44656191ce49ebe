"""Weights arrive on a node whole and right, or not at all: the init container of the engine chart, on a real S3."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from local.objects import EmbeddedObjectStore
from studio.objects import Bucket, ObjectStore
from studio.weights import Manifest, NoRoomForWeights, WeightsCorrupt, describe, ensure_local, publish
from tests.local.servers import client

WEIGHTS = "qwen3-32b"


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    """The object store of this run."""
    return client(objects, objects.secrets.s3_secret_key)


def pushed(store: ObjectStore, folder: Path, content: bytes) -> Manifest:
    """A model of two files, in the object store under the manifest that is returned."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    manifest = Manifest(WEIGHTS, "Apache-2.0", describe(folder))
    for file in manifest.files:
        store.put(Bucket.MODELZOO, manifest.object_key(file), (folder / file.path).read_bytes())
    publish(store, manifest)
    return manifest


def fetching(objects: EmbeddedObjectStore, node: Path, *arguments: str) -> subprocess.Popen[str]:
    """The init container's command, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "local.fetch_weights", WEIGHTS, f"--link={node / 'weights'}", *arguments],
        env={**os.environ, **objects.environment, "STUDIO_WEIGHTS_DIR": str(node / "models")},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_link_names_a_verified_copy_and_the_engines_folder_is_there(
    objects: EmbeddedObjectStore, store: ObjectStore, tmp_path: Path
) -> None:
    manifest = pushed(store, tmp_path / "pushed", b"weights")
    arguments = (f"--digest={manifest.digest}", "--make-folder=compiled/abc")
    fetch = fetching(objects, tmp_path, *arguments)
    assert (fetch.communicate()[1].count("weights_ready"), fetch.returncode) == (1, 0)
    link = tmp_path / "weights"
    assert link.readlink() == tmp_path / "models" / WEIGHTS / manifest.digest
    assert (link / "model.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "models/compiled/abc").is_dir()


def test_of_two_pods_on_a_node_one_downloads(objects: EmbeddedObjectStore, store: ObjectStore, tmp_path: Path) -> None:
    manifest = pushed(store, tmp_path / "pushed", os.urandom(8 * 1024 * 1024))
    (tmp_path / "models" / WEIGHTS / f"{manifest.digest}.partial").mkdir(parents=True)  # of a pod that was killed
    pods = [tmp_path / "a", tmp_path / "b"]
    for pod in pods:
        pod.mkdir()
        (pod / "models").symlink_to(tmp_path / "models")
    fetches = [fetching(objects, pod) for pod in pods]
    logs = [fetch.communicate()[1] for fetch in fetches]
    assert [fetch.returncode for fetch in fetches] == [0, 0]
    assert sorted(log.count("weights_file") for log in logs) == [0, 2]
    assert all((pod / "weights/config.json").read_text() == "{}" for pod in pods)


def test_other_bytes_than_the_manifests_are_refused_and_nothing_stays(store: ObjectStore, tmp_path: Path) -> None:
    manifest = pushed(store, tmp_path / "pushed", b"weights")
    file = next(file for file in manifest.files if file.path == "model.safetensors")
    store.put(Bucket.MODELZOO, manifest.object_key(file), b"forgery")
    with pytest.raises(WeightsCorrupt, match="has not the manifest's SHA-256"):
        ensure_local(store, WEIGHTS, tmp_path / "models")
    assert [path.name for path in (tmp_path / "models" / WEIGHTS).iterdir()] == [f"{manifest.digest}.lock"]


def test_a_release_that_names_a_digest_gets_no_other_weights(
    objects: EmbeddedObjectStore, store: ObjectStore, tmp_path: Path
) -> None:
    reviewed = pushed(store, tmp_path / "pushed", b"reviewed")
    now = pushed(store, tmp_path / "pushed", b"newer")
    fetch = fetching(objects, tmp_path, f"--digest={reviewed.digest}")
    assert f"is now {now.digest}, and {reviewed.digest} was asked for" in fetch.communicate()[1]
    assert (fetch.returncode, (tmp_path / "weights").is_symlink()) == (1, False)


def test_a_disk_without_room_is_said_before_the_download(store: ObjectStore, tmp_path: Path) -> None:
    small = pushed(store, tmp_path / "pushed", b"weights")
    huge = replace(small, files=tuple(replace(file, size_bytes=2**60) for file in small.files))
    store.put(Bucket.MODELZOO, f"{WEIGHTS}/manifest.json", huge.to_json())
    with pytest.raises(NoRoomForWeights, match="GB free: remove copies that no engine uses"):
        ensure_local(store, WEIGHTS, tmp_path / "models")
