"""Objects larger than memory: written in parts as they arrive, read in pieces. Whole objects are `objects.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from studio.objects import Bucket, ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 * 1024 * 1024  # S3 takes at most 10,000 parts of at least 5 MiB
PIECE_BYTES = 256 * 1024


class ObjectWriter:
    """An object that exists whole after `close`, and not at all after `abort`. A `with` block chooses between them."""

    def __init__(self, store: ObjectStore, bucket: Bucket, key: str) -> None:
        self._client = store.client
        self._bucket = store.name(bucket)
        self._key = key
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[CompletedPartTypeDef] = []
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of all that was written."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """The next bytes. They are sent once a part is full, so this may block."""
        self._hash.update(data)
        self.size_bytes += len(data)
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            self._send_part(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]

    def close(self) -> None:
        """Send the rest; from now on the object exists."""
        if self._upload_id is None:
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send_part(bytes(self._buffer))
        self._client.complete_multipart_upload(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
        )

    def abort(self) -> None:
        """Forget what was sent."""
        if self._upload_id is not None:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _send_part(self, part: bytes) -> None:
        if self._upload_id is None:
            started = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)
            self._upload_id = started["UploadId"]
        number = len(self._parts) + 1
        sent = self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=part
        )
        self._parts.append({"ETag": sent["ETag"], "PartNumber": number})


def read_pieces(store: ObjectStore, bucket: Bucket, key: str) -> Iterator[bytes]:
    """An object from its beginning to its end."""
    body = store.client.get_object(Bucket=store.name(bucket), Key=key)["Body"]
    try:
        yield from body.iter_chunks(PIECE_BYTES)
    finally:
        body.close()


def read_span(store: ObjectStore, bucket: Bucket, key: str, byte_from: int, byte_until: int) -> bytes:
    """The bytes [byte_from, byte_until) of an object."""
    span = f"bytes={byte_from}-{byte_until - 1}"
    return store.client.get_object(Bucket=store.name(bucket), Key=key, Range=span)["Body"].read()


def delete_objects(store: ObjectStore, bucket: Bucket, prefix: str) -> None:
    """All objects whose key begins with `prefix`."""
    name = store.name(bucket)
    for page in store.client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix):
        for found in page.get("Contents", ()):
            store.client.delete_object(Bucket=name, Key=found["Key"])
