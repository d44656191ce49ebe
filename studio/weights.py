"""Model weights in the `modelzoo` bucket: pushed with a manifest, used only from a verified local copy.

Layout: `<weights id>/<digest>/<file>` and `<weights id>/manifest.json`, written last, naming the digest. So a half-done
push is invisible, and a node that verifies against the manifest never serves other bytes than those reviewed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from studio.errors import InvalidRequest, NotFound, StudioError
from studio.objects import Bucket, ObjectStore

_CHUNK_BYTES = 4 * 1024 * 1024
# What an engine needs. Pickled weights (.bin, .pt) are refused: loading one runs code.
_REFUSED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".py")


class WeightsCorrupt(InvalidRequest):
    """Bytes that do not have the manifest's hash. The copy is not used."""

    default_code = "weights_corrupt"


class NoRoomForWeights(StudioError):
    """The disk has less room than the weights need; nothing was downloaded."""

    def __init__(self, weights_id: str, size_bytes: int, free_bytes: int, folder: Path) -> None:
        super().__init__(
            f"{weights_id} needs {size_bytes / 1e9:.1f} GB and {folder} has {free_bytes / 1e9:.1f} GB free: "
            "remove copies that no engine uses, or give it a larger disk"
        )


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file of a model: path inside the model's folder, bytes, SHA-256 in hex."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model's weights consist of. `digest` names the content."""

    weights_id: str
    licence: str
    files: tuple[WeightsFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted file list, 16 hex digits: equal content has an equal digest."""
        lines = "".join(f"{file.sha256} {file.path}\n" for file in sorted(self.files, key=lambda file: file.path))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)

    def object_key(self, file: WeightsFile) -> str:
        """Where the file lies in the bucket."""
        return f"{self.weights_id}/{self.digest}/{file.path}"

    def to_json(self) -> bytes:
        """The stored form."""
        return json.dumps(asdict(self) | {"digest": self.digest}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Parse the stored form; InvalidRequest when the digest does not fit the files."""
        document = json.loads(text)
        manifest = cls(document["weights_id"], document["licence"], tuple(WeightsFile(**f) for f in document["files"]))
        require_safe_paths(manifest)
        if document.get("digest") != manifest.digest:
            raise WeightsCorrupt(f"the manifest of {manifest.weights_id} does not have the digest of its own files")
        return manifest


def describe(folder: Path) -> tuple[WeightsFile, ...]:
    """Hash a local folder of weights. InvalidRequest for a folder that cannot be a model."""
    if not (folder / "config.json").is_file():
        raise InvalidRequest(f"{folder} holds no config.json, so it is no folder of model weights")
    files = []
    for path in sorted(found for found in folder.rglob("*") if found.is_file()):
        relative = path.relative_to(folder).as_posix()
        if path.name.startswith(".") or path.suffix == ".md":
            continue
        if path.suffix in _REFUSED_SUFFIXES:
            raise InvalidRequest(f"{relative}: {path.suffix} files can run code when loaded; push safetensors")
        files.append(WeightsFile(relative, path.stat().st_size, _sha256(path)))
    if not any(file.path.endswith(".safetensors") for file in files):
        raise InvalidRequest(f"{folder} holds no .safetensors file")
    return tuple(files)


def require_safe_paths(manifest: Manifest) -> None:
    """WeightsCorrupt when a file would lie outside the model's folder."""
    for file in manifest.files:
        if file.path.startswith("/") or "\\" in file.path or ".." in Path(file.path).parts:
            raise WeightsCorrupt(f"{file.path!r} is no path inside a model's folder")


def read_manifest(store: ObjectStore, weights_id: str) -> Manifest:
    """The manifest of a pushed model; NotFound when nothing was pushed."""
    text = store.get(Bucket.MODELZOO, f"{weights_id}/manifest.json")
    if text is None:
        raise NotFound(
            f"no weights called {weights_id} were pushed", way_out="Run `studio model push DIR --model MODEL`."
        )
    return Manifest.from_json(text)


def publish(store: ObjectStore, manifest: Manifest) -> None:
    """Make uploaded files the model's weights. InvalidRequest names the first file that is missing or differs."""
    for file in manifest.files:
        size = store.size(Bucket.MODELZOO, manifest.object_key(file))
        if size != file.size_bytes:
            found = "is missing" if size is None else f"has {size} bytes"
            raise InvalidRequest(f"{file.path} {found} in the object store; the manifest says {file.size_bytes} bytes")
    store.put(Bucket.MODELZOO, f"{manifest.weights_id}/manifest.json", manifest.to_json(), "application/json")


def ensure_local(
    store: ObjectStore,
    weights_id: str,
    weights_dir: Path,
    progress: Callable[[str], None] = lambda _: None,
    digest: str | None = None,
) -> Path:
    """The folder of a verified copy, downloaded when it is not there. `digest`: that content or none.

    WeightsCorrupt for other bytes than the manifest's, or another manifest than `digest`; NoRoomForWeights before a
    download that would fill the disk. A copy is verified file by file when it arrives, then renamed into place at once;
    its name is the content's digest, so what is in place is complete and right. Of several processes that want the same
    copy (pods of one node, each of which calls itself process 1) one downloads and the others wait for it.
    """
    manifest = read_manifest(store, weights_id)
    if digest is not None and manifest.digest != digest:
        raise WeightsCorrupt(f"{weights_id} is now {manifest.digest}, and {digest} was asked for: push that one again")
    target = weights_dir / weights_id / manifest.digest
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{manifest.digest}.lock")):
        if not target.is_dir():  # otherwise another process has just brought it
            _download(store, manifest, target, progress)
    return target


def _download(store: ObjectStore, manifest: Manifest, target: Path, progress: Callable[[str], None]) -> None:
    """Bring the files to `target`, by way of a folder beside it that a killed process may have left behind."""
    partial = target.with_name(f"{manifest.digest}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < manifest.size_bytes:
        raise NoRoomForWeights(manifest.weights_id, manifest.size_bytes, free_bytes, target.parent)
    try:
        for file in manifest.files:
            path = partial / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            progress(file.path)
            with path.open("wb") as sink:
                store.download(Bucket.MODELZOO, manifest.object_key(file), sink)
            if _sha256(path) != file.sha256:
                raise WeightsCorrupt(
                    f"{manifest.weights_id}: {file.path} in the object store has not the manifest's SHA-256"
                )
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file. The kernel gives it back when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
