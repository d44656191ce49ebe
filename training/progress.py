"""What a fine-tune leaves in the object store while it runs: numbered events, below one prefix.

    events/00000001.json ...        one object per event, numbered without a gap
    checkpoints/, adapter/          see checkpoints.py and adapter_check.py; each has a manifest, written last

Events are written by whoever works on the job: the run before and after training, the trainer in between, never two at
once. The database's `fine_tuning_events` is a copy, made by the run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio import clock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Level = Literal["info", "warn", "error"]


@dataclass(frozen=True)
class Prefix:
    """The objects of one fine-tune, by their name below its prefix."""

    client: S3Client
    bucket: str
    prefix: str

    def put(self, name: str, body: bytes) -> None:
        """Write one object."""
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=body)

    def get(self, name: str) -> bytes | None:
        """Its bytes; None when there is no such object."""
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def upload(self, path: Path, name: str) -> None:
        """Write a file, in parts when it is large."""
        self.client.upload_file(str(path), self.bucket, self.prefix + name)

    def download(self, name: str, path: Path) -> None:
        """Read into a file."""
        self.client.download_file(self.bucket, self.prefix + name, str(path))

    def delete(self, name: str) -> None:
        """Forget an object; one that is gone already is no error."""
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def delete_folder(self, name: str) -> None:
        """Forget every object whose name begins so."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + name)
        for found in [found for page in pages for found in page.get("Contents", [])]:
            self.client.delete_object(Bucket=self.bucket, Key=found["Key"])


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One event, in OpenAI's vocabulary. `data` of metrics has step, total_steps and what was measured."""

    seq: int
    at: str  # ISO 8601, UTC
    level: Level
    type: Literal["message", "metrics"]
    message: str
    data: Mapping[str, Any]

    def to_json(self) -> bytes:
        """The stored form."""
        return json.dumps(asdict(self), allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> ProgressEvent:
        """The reverse."""
        return cls(**json.loads(text))


class ProgressLog:
    """Appends events; a cursor for whoever reads them."""

    def __init__(self, prefix: Prefix, next_seq: int = 1) -> None:
        self._prefix = prefix
        self.next_seq = next_seq

    def message(self, text: str, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Something happened."""
        self._append(level, "message", text, data or {})

    def metrics(self, text: str, data: Mapping[str, float]) -> None:
        """A step of training was measured. What is not finite becomes None: JSON has no NaN, nor has PostgreSQL's."""
        self._append(
            "info", "metrics", text, {name: value if math.isfinite(value) else None for name, value in data.items()}
        )

    def read_next(self) -> ProgressEvent | None:
        """The next event, when it is there."""
        body = self._prefix.get(_name(self.next_seq))
        if body is None:
            return None
        self.next_seq += 1
        return ProgressEvent.from_json(body)

    def _append(self, level: Level, type: Literal["message", "metrics"], text: str, data: Mapping[str, Any]) -> None:
        event = ProgressEvent(self.next_seq, clock.now().isoformat(), level, type, text, data)
        self._prefix.put(_name(event.seq), event.to_json())
        self.next_seq += 1


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a checkpoint or an adapter."""

    name: str
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> StoredFile:
        """Describe a local file."""
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        return cls(path.name, path.stat().st_size, digest)


def _name(seq: int) -> str:
    return f"events/{seq:08d}.json"
