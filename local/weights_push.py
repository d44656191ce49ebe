"""Push a folder of weights: hash it, upload what the object store lacks straight to it, then publish the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from local.api import Api, ApiRefused
from studio.weights import describe

_CHUNK_BYTES = 1024 * 1024
_UPLOAD_TIMEOUT = httpx.Timeout(60.0, write=300.0, read=300.0)


def push(api: Api, folder: Path, model: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Make `folder` the weights of a model of the catalog. An interrupted push goes on where it stopped."""
    say(f"hashing {folder.name}")
    files = describe(folder)
    body = {"files": [asdict(file) for file in files]}
    plan = api.post(f"/admin/v1/models/{model}/weights/uploads", body)
    sizes = {file.path: file.size_bytes for file in files}
    for upload in plan["uploads"]:
        _put(upload["url"], folder / upload["path"], sizes[upload["path"]], say)
    published: dict[str, Any] = api.post(f"/admin/v1/models/{model}/weights/publish", body)
    return published


def _put(url: str, path: Path, size_bytes: int, say: Callable[[str], None]) -> None:
    def chunks() -> Iterator[bytes]:
        sent = 0
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                sent += len(chunk)
                say(f"uploading {path.name} {100 * sent // size_bytes} %")
                yield chunk

    try:
        answer = httpx.put(
            url,
            content=chunks() if size_bytes else b"",
            headers={"content-length": str(size_bytes)},
            timeout=_UPLOAD_TIMEOUT,
            trust_env=False,
        )
    except httpx.TransportError as error:
        raise ApiRefused(f"uploading {path.name} broke off ({error}); run the push again, it goes on") from error
    if answer.is_error:
        raise ApiRefused(f"the object store refused {path.name}: {answer.status_code} {answer.text[:200]}")
