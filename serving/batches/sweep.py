"""The sweep: bytes that nobody may read any more go. It looks at rows only, so it finds what a killed process left too.

Files go when they are deleted or expired and no work needs them, parts of uploads when their upload has ended, results
of shards when their batch has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Engine, func, or_, select, update
from sqlalchemy.orm import Session

from serving.batches import results
from serving.batches.failures import facts
from serving.files import parts, records
from studio import clock
from studio.db.jobs import Batch, BatchShard, File, Upload
from studio.db.sessions import unit_of_work
from studio.object_streams import delete_objects
from studio.objects import Bucket, ObjectStore

AT_ONCE = 100  # things of each kind: a worker has other work

log = structlog.get_logger()


def due_since(session: Session, now: datetime) -> datetime | None:
    """Since when there has been something to remove; None when there is nothing."""
    of_files = select(func.min(func.least(File.deleted_at, File.expires_at))).where(records.can_go(now))
    ended_at = func.coalesce(Batch.completed_at, Batch.expired_at, Batch.cancelled_at)
    of_batches = select(func.min(ended_at)).where(_has_leftovers())
    ended_upload_at = func.coalesce(Upload.ended_at, Upload.expires_at) + parts.JOINING
    of_uploads = select(func.min(ended_upload_at)).where(parts.parts_can_go(now))
    queries = (of_files, of_batches, of_uploads)
    since = [instant for query in queries if (instant := session.scalars(query).one()) is not None]
    return min(since, default=None)


def sweep(database: Engine, store: ObjectStore) -> int:
    """Remove what there is to remove, at most AT_ONCE of each kind; how many went."""
    now = clock.now()
    with unit_of_work(database) as session:
        file_ids = session.scalars(select(File.id).where(records.can_go(now)).limit(AT_ONCE)).all()
        uploads = select(Upload.id, Upload.tenant_id).where(parts.parts_can_go(now)).limit(AT_ONCE)
        ended_uploads = session.execute(uploads).tuples().all()
        ended = session.execute(select(Batch.id, Batch.tenant_id).where(_has_leftovers()).limit(AT_ONCE)).tuples().all()
    gone = 0
    for file_id in file_ids:
        with _alone(file=str(file_id)):
            gone += _remove_file(database, store, file_id)
    for upload_id, tenant_id in ended_uploads:
        with _alone(upload=str(upload_id)):
            gone += _remove_parts(database, store, tenant_id, upload_id)
    for batch_id, tenant_id in ended:
        with _alone(batch=str(batch_id)):
            gone += _remove_results(database, store, tenant_id, batch_id)
    return gone


def _remove_file(database: Engine, store: ObjectStore, file_id: UUID) -> bool:
    with unit_of_work(database) as session:
        has_bytes = select(File.object_key).where(File.id == file_id, File.bytes_deleted_at.is_(None))
        object_key = session.scalars(has_bytes.with_for_update(skip_locked=True)).one_or_none()
        # Work may have begun with the file just before the lock. After it none can: it waits, and then sees the mark.
        if object_key is None or records.is_needed(session, file_id):
            return False
        store.delete(Bucket.FILES, object_key)
        records.mark_removed(session, file_id, clock.now())
    return True


def _remove_parts(database: Engine, store: ObjectStore, tenant_id: UUID, upload_id: UUID) -> bool:
    # By prefix: what a killed gateway wrote has no row.
    delete_objects(store, Bucket.FILES, parts.parts_prefix(tenant_id, upload_id))
    with unit_of_work(database) as session:
        session.execute(update(Upload).where(Upload.id == upload_id).values(parts_removed_at=clock.now()))
    return True


def _remove_results(database: Engine, store: ObjectStore, tenant_id: UUID, batch_id: UUID) -> bool:
    delete_objects(store, Bucket.FILES, results.shards_prefix(tenant_id, batch_id))
    with unit_of_work(database) as session:
        session.execute(
            update(BatchShard)
            .where(BatchShard.batch_id == batch_id, _has_results())
            .values(output_key=None, error_key=None)
        )
    return True


def _has_leftovers() -> ColumnElement[bool]:
    shards = select(BatchShard.batch_id).where(BatchShard.batch_id == Batch.id, _has_results())
    return Batch.state.in_(records.BATCH_ENDED) & shards.exists()


def _has_results() -> ColumnElement[bool]:
    return or_(BatchShard.output_key.is_not(None), BatchShard.error_key.is_not(None))


@contextmanager
def _alone(**what: str) -> Iterator[None]:
    """What cannot be removed keeps nothing else from it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # it is still there at the next sweep
        log.warning("bytes_not_removed", **what, **facts(error))
