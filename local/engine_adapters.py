"""The adapters of one running engine: which it should have, and how it comes to have them.

An engine forgets everything when it restarts, so this is level-triggered like the node agent itself. Files are loaded
from a verified local copy whose folder is named after our own id and the content's hash: engines key their prefix
cache by that name, and no string of a client ever reaches them.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from local.engine_process import EngineProcess, EngineUnready
from local.replica_records import ReplicaRecord, ServedAdapter
from studio.adapters import ADAPTER_FILES, adapter_sha256
from studio.objects import Bucket, ObjectStore

log = structlog.get_logger()

_RAREST_SECONDS = 60.0


class AdapterUnavailable(Exception):
    """The object store does not have it now, or has other bytes."""


class EngineAdapters:
    """What one engine has loaded or refused. `on_change` is called when its record has news."""

    def __init__(
        self,
        engine: EngineProcess,
        record: ReplicaRecord,
        store: ObjectStore,
        folder: Path,
        on_change: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._record = record
        self._store = store
        self._folder = folder
        self._on_change = on_change
        self._known: dict[UUID, ServedAdapter] = {}
        self._tries: Counter[UUID] = Counter()  # in a row, of what failed for a reason that may pass
        self._again_at: dict[UUID, float] = {}

    async def reconcile(self, wanted: Iterable[ServedAdapter]) -> None:
        """Load and unload until the engine has what is wanted. What fails is tried again later, ever more rarely."""
        by_id = {adapter.id: adapter for adapter in wanted}
        for adapter in [adapter for id, adapter in self._known.items() if id not in by_id]:
            await self._attempt(adapter, self._unload)
        for adapter in [adapter for id, adapter in by_id.items() if id not in self._known]:
            await self._attempt(adapter, self._load)

    async def _attempt(self, adapter: ServedAdapter, act: Callable[[ServedAdapter], Coroutine[Any, Any, None]]) -> None:
        if time.monotonic() < self._again_at.get(adapter.id, 0.0):
            return
        try:
            await act(adapter)
        except (AdapterUnavailable, EngineUnready, BotoCoreError, ClientError, OSError) as error:
            if not self._tries[adapter.id]:
                log.warning("adapter_waits", adapter=adapter.engine_name, reason=str(error))
            self._tries[adapter.id] += 1
            self._again_at[adapter.id] = time.monotonic() + min(2.0 ** self._tries[adapter.id], _RAREST_SECONDS)
        else:
            del self._tries[adapter.id]
            self._on_change()

    async def _load(self, adapter: ServedAdapter) -> None:
        folder = await asyncio.to_thread(ensure_local_adapter, self._store, adapter, self._folder)
        refusal = await self._engine.load_adapter(adapter.engine_name, folder)
        self._known[adapter.id] = adapter
        self._record.note_adapter(adapter.id, refusal)
        if refusal is None:
            log.info("adapter_loaded", adapter=adapter.engine_name, replica=str(self._record.id))
        else:
            log.warning("adapter_refused", adapter=adapter.engine_name, replica=str(self._record.id), reason=refusal)

    async def _unload(self, adapter: ServedAdapter) -> None:
        await self._engine.unload_adapter(adapter.engine_name)
        await asyncio.to_thread(shutil.rmtree, self._folder / adapter.engine_name, ignore_errors=True)
        del self._known[adapter.id]
        self._record.forget_adapter(adapter.id)
        log.info("adapter_unloaded", adapter=adapter.engine_name, replica=str(self._record.id))


def ensure_local_adapter(store: ObjectStore, adapter: ServedAdapter, root: Path) -> Path:
    """The folder of a verified copy, fetched when it is not there. What is in place is complete and right."""
    target = root / adapter.engine_name
    if target.is_dir():
        return target
    bodies = [store.get(Bucket.ADAPTERS, adapter.object_prefix + name) for name in ADAPTER_FILES]
    found = [body for body in bodies if body is not None]
    if len(found) != len(ADAPTER_FILES) or adapter_sha256(found) != adapter.sha256:
        raise AdapterUnavailable("the object store has not the bytes that were validated")
    root.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=root))
    try:
        for name, body in zip(ADAPTER_FILES, found, strict=True):
            (partial / name).write_bytes(body)
        partial.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another replica's slot was faster, with the same content
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
