"""Assembly: when all lines of a batch are done, its shards' results become the two files that its owner downloads. The
sweep then removes the shards' own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from serving.batches import lifecycle, shards
from serving.files import records
from studio import clock, ids
from studio.db.jobs import Batch, File
from studio.db.sessions import unit_of_work
from studio.object_streams import ObjectWriter, read_pieces
from studio.objects import Bucket, ObjectStore


def assemble(database: Engine, store: ObjectStore, batch_id: UUID) -> bool:
    """Make the files and end the batch; False when another worker is at it.

    The lock belongs to the transaction, so it cannot outlive a worker that dies here; another one starts anew.
    """
    with unit_of_work(database) as session:
        lifecycle.finalize(session, batch_id, clock.now())
    with unit_of_work(database) as session:
        if not session.scalars(select(func.pg_try_advisory_xact_lock(func.hashtextextended(str(batch_id), 0)))).one():
            return False
        batch = session.get_one(Batch, batch_id)
        if batch.state not in ("finalizing", "cancelling"):
            return False
        now = clock.now()
        keys = shards.result_keys(session, batch_id)
        output_file_id = _file(session, store, batch, "output", (output for output, _ in keys), now)
        error_file_id = _file(session, store, batch, "errors", (errors for _, errors in keys), now)
        lifecycle.end(session, batch, output_file_id, error_file_id, now)
    return True


def _file(
    session: Session, store: ObjectStore, batch: Batch, kind: str, keys: Iterable[str | None], now: datetime
) -> UUID | None:
    """Join the parts to a file of the tenant; None when there are none.

    Its id depends on the batch alone: what a killed worker wrote is written over by the next one.
    """
    present = [key for key in keys if key is not None]
    if not present:
        return None
    began_at = batch.finalizing_at or batch.cancelling_at
    assert began_at is not None  # by the batch's state
    file_id = ids.uuid7_of(began_at, b"%b/%b" % (batch.id.bytes, kind.encode()))
    object_key = records.object_key(batch.tenant_id, file_id)
    with ObjectWriter(store, Bucket.FILES, object_key) as writer:
        for key in present:
            for piece in read_pieces(store, Bucket.FILES, key):
                writer.write(piece)
    session.add(
        File(
            id=file_id,
            tenant_id=batch.tenant_id,
            filename=f"{ids.to_wire(ids.BATCH, batch.id)}_{kind}.jsonl",
            purpose="batch_output",
            size_bytes=writer.size_bytes,
            sha256=writer.sha256,
            object_key=object_key,
            created_at=now,
            expires_at=now + records.BATCH_FILE_LIFE,
        )
    )
    session.flush()
    return file_id
