"""A form's file on its way from caller to object store: in pieces, hashed and counted, never whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from serving.files.form import Field, FileBegins, FormReader, Piece
from studio.errors import InvalidRequest, PayloadTooLarge
from studio.object_streams import ObjectWriter
from studio.objects import Bucket, ObjectStore

LABEL_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Arrival:
    """What arrived. The object is written; whether it becomes a file is the caller's decision."""

    fields: Mapping[str, str]
    filename: str
    size_bytes: int
    sha256: str


async def receive(
    body: AsyncIterator[bytes], content_type: str, store: ObjectStore, key: str, field: str, most_bytes: int
) -> Arrival:
    """Read the form and write the file in its `field` to `key`. Nothing is left there when the form is refused or
    breaks off."""
    form = FormReader(content_type)
    writer = ObjectWriter(store, Bucket.FILES, key)
    fields: dict[str, str] = {}
    filename: str | None = None
    try:
        async for data in body:
            for part in form.feed(data):
                match part:
                    case Field(name, value):
                        fields[name] = value
                    case FileBegins(name, given):
                        if name != field or filename is not None:
                            raise InvalidRequest(f"The form must hold exactly one file, called `{field}`.", param=name)
                        filename = label(given)
                    case Piece(piece):
                        if writer.size_bytes + len(piece) > most_bytes:
                            raise PayloadTooLarge(f"`{field}` may have at most {most_bytes:,} bytes.", param=field)
                        await asyncio.to_thread(writer.write, piece)
        form.require_complete()
        if filename is None:
            raise InvalidRequest(f"Missing required field `{field}`.", param=field)
        await asyncio.to_thread(writer.close)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(_forget, writer, store, key))
        raise
    return Arrival(fields, filename, writer.size_bytes, writer.sha256)


def _forget(writer: ObjectWriter, store: ObjectStore, key: str) -> None:
    try:
        writer.abort()
    finally:
        store.delete(Bucket.FILES, key)  # an end that seemed to fail may have made the object


def label(filename: str) -> str:
    """A file name as a label: no folder, no control characters, no quotes. It never names anything on a disk."""
    base = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in base if char.isprintable() and char not in "\"'")[:LABEL_LENGTH] or "file"
