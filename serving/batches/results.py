"""Results of lines, in OpenAI's form, collected per shard on their way to the object store."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from typing import Any, Literal, Self
from uuid import UUID

import orjson

from serving import envelope
from studio.errors import StudioError
from studio.objects import Bucket, ObjectStore

SPOOL_BYTES = 8 * 1024 * 1024  # kept in memory; embeddings of a shard may be a hundred times as much

NotRun = Literal["batch_cancelled", "batch_expired", "internal_error"]
_WHY_NOT_RUN: dict[NotRun, str] = {
    "batch_cancelled": "The batch was cancelled before this line was run.",
    "batch_expired": "The batch expired before this line was run.",
    "internal_error": "This line could not be run.",
}


def answered(id: UUID, request_id: str, custom_id: str, status: int, body: dict[str, Any]) -> bytes:
    """A line that an engine has answered, well or with a refusal."""
    response = {"status_code": status, "request_id": request_id, "body": body}
    return _line(id, custom_id, response, None)


def refused(id: UUID, request_id: str, custom_id: str, error: StudioError) -> bytes:
    """A line that could not be answered."""
    return answered(id, request_id, custom_id, error.status, orjson.loads(envelope.body_of(error)))


def not_run(id: UUID, custom_id: str, why: NotRun) -> bytes:
    """A line without an answer."""
    return _line(id, custom_id, None, {"code": why, "message": _WHY_NOT_RUN[why]})


def shards_prefix(tenant_id: UUID, batch_id: UUID) -> str:
    """Where the results of a batch's shards lie until its files are assembled."""
    return f"{tenant_id}/batches/{batch_id}/"


def remove(store: ObjectStore, *keys: str | None) -> None:
    """Parts of an attempt that came to nothing."""
    for key in keys:
        if key is not None:
            store.delete(Bucket.FILES, key)


class ShardResults:
    """Output and error lines of one shard. Use in a `with` block."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._output = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES))
            self._errors = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES))
            self._open = stack.pop_all()
        self.completed = 0
        self.failed = 0
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def complete(self, line: bytes) -> None:
        """A line for the output file."""
        self._output.write(line)
        self.completed += 1
        self.size_bytes += len(line)

    def fail(self, line: bytes) -> None:
        """A line for the error file."""
        self._errors.write(line)
        self.failed += 1
        self.size_bytes += len(line)

    def store(self, store: ObjectStore, key: str) -> tuple[str | None, str | None]:
        """Write both parts; the keys of those that are not empty."""
        keys: list[str | None] = []
        for lines, count, kind in ((self._output, self.completed, "output"), (self._errors, self.failed, "errors")):
            keys.append(f"{key}.{kind}.jsonl" if count else None)
            if count:
                lines.seek(0)
                store.client.put_object(Bucket=store.name(Bucket.FILES), Key=f"{key}.{kind}.jsonl", Body=lines)
        return keys[0], keys[1]


def _line(id: UUID, custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    line = {"id": f"batch_req_{id.hex}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
