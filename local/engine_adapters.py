"""The adapters of one running engine: which it should have, and how it comes to have them.

An engine forgets everything when it restarts, so this is level-triggered like the node agent itself. Files are loaded
from a verified local copy whose folder is named after our own id and the content's hash: engines key their prefix
cache by that name, and no string of a client ever reaches them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from local.engine_process import EngineProcess
from local.replica_records import ReplicaRecord, ServedAdapter
from studio.adapters import ADAPTER_FILES, adapter_sha256
from studio.objects import Bucket, ObjectStore

log = structlog.get_logger()


class AdapterUnavailable(Exception):
    """The object store does not have it now, or has other bytes."""


class EngineAdapters:
    """What one engine has loaded or refused."""

    def __init__(self, engine: EngineProcess, record: ReplicaRecord, store: ObjectStore, folder: Path) -> None:
        self._engine = engine
        self._record = record
        self._store = store
        self._folder = folder
        self._known: dict[UUID, ServedAdapter] = {}
        self._missing: set[UUID] = set()  # reported once

    async def reconcile(self, wanted: Iterable[ServedAdapter]) -> bool:
        """Load and unload until the engine has what is wanted; whether the record has news."""
        by_id = {adapter.id: adapter for adapter in wanted}
        gone = [adapter for id, adapter in self._known.items() if id not in by_id]
        new = [adapter for id, adapter in by_id.items() if id not in self._known]
        for adapter in gone:
            await self._engine.unload_adapter(adapter.engine_name)
            del self._known[adapter.id]
            self._record.forget_adapter(adapter.id)
            log.info("adapter_unloaded", adapter=adapter.engine_name, replica=str(self._record.id))
        for adapter in new:
            try:
                folder = await asyncio.to_thread(ensure_local_adapter, self._store, adapter, self._folder)
            except (AdapterUnavailable, BotoCoreError, ClientError, OSError) as error:
                if adapter.id not in self._missing:
                    log.warning("adapter_unavailable", adapter=adapter.engine_name, reason=str(error))
                self._missing.add(adapter.id)
                continue
            refusal = await self._engine.load_adapter(adapter.engine_name, folder)
            self._known[adapter.id] = adapter
            self._record.note_adapter(adapter.id, refusal)
            log.info("adapter_loaded", adapter=adapter.engine_name, replica=str(self._record.id), refusal=refusal)
        return bool(gone or new)


def ensure_local_adapter(store: ObjectStore, adapter: ServedAdapter, root: Path) -> Path:
    """The folder of a verified copy, fetched when it is not there. What is in place is complete and right."""
    target = root / adapter.engine_name
    if target.is_dir():
        return target
    bodies = [store.get(Bucket.ADAPTERS, adapter.object_prefix + name) for name in ADAPTER_FILES]
    found = [body for body in bodies if body is not None]
    if len(found) != len(ADAPTER_FILES) or adapter_sha256(found) != adapter.sha256:
        raise AdapterUnavailable("the object store has not the bytes that were validated")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, body in zip(ADAPTER_FILES, found, strict=True):
        (partial / name).write_bytes(body)
    partial.rename(target)
    return target
