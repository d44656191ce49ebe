"""The node agent: makes the engines on this machine be what `desired_replicas` says, as a kubelet does with pods.

Level-triggered and alone: each second it reads what should be, compares it with its slots, and writes down what is. It
needs neither Dagster nor the gateway; while the database is away its engines go on. Engines end with it, so that a
restarted agent starts from nothing. `python -m local.node_agent`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import cycle

import aiohttp
import structlog
from psycopg.errors import InsufficientPrivilege, UndefinedTable
from sqlalchemy.exc import DBAPIError, OperationalError

from local import process_tree
from local.engine_command import EngineSpec
from local.guard import guarded
from local.ports import is_free
from local.replica_records import ReplicaRecord, ReplicaStore, ServedAdapter
from local.replica_slot import Node, ReplicaSlot
from studio import logs
from studio.db.sessions import engine_for
from studio.objects import ObjectStore
from studio.settings import Settings, settings

log = structlog.get_logger()

_PERIOD_SECONDS = 1.0
_LAST_DRAIN_SECONDS = 8.0  # when the whole stack stops
_ENGINE_PORTS = 100


class NodeAgent:
    """Slots by (variant, number), and the records of their replicas until the database has them."""

    def __init__(self, store: ReplicaStore, node: Node) -> None:
        self._store = store
        self._node = node
        self._slots: dict[tuple[str, int], ReplicaSlot] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._records: list[ReplicaRecord] = []
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._database_is_away = False

    def stop(self) -> None:
        """Drain everything and end."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Until stopped."""
        while not self._stopping.is_set():
            desired = await self._read()
            if desired is not None:
                self._reconcile(*desired)
            await self._save()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PERIOD_SECONDS):
                    await self._changed.wait()
        for slot in self._slots.values():
            slot.retire(_LAST_DRAIN_SECONDS)
        while self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_PERIOD_SECONDS)
            self._forget_ended()
            await self._save()

    def _reconcile(self, desired: Mapping[EngineSpec, int], adapters: Sequence[ServedAdapter]) -> None:
        """Begin the slots that are missing, retire those that are too many or run another engine than is wanted now."""
        self._forget_ended()
        wanted = {(spec.variant_id, n): spec for spec, count in desired.items() for n in range(1, count + 1)}
        for key, slot in self._slots.items():
            if wanted.get(key) != slot.spec and not slot.is_retired:
                slot.retire()
        for key, spec in wanted.items():
            if key not in self._slots:
                log.info("replica_wanted", variant=spec.variant_id, number=key[1])
                self._slots[key] = slot = ReplicaSlot(spec, key[1], self._node, self._note)
                self._tasks[key] = asyncio.create_task(slot.run())
        for (variant_id, _), slot in self._slots.items():
            slot.adapters = tuple(adapter for adapter in adapters if adapter.variant_id == variant_id)

    def _forget_ended(self) -> None:
        for key in [key for key, task in self._tasks.items() if task.done()]:
            self._tasks.pop(key).result()  # a slot ends only when retired; anything else is our own error, and raised
            del self._slots[key]

    def _note(self) -> None:
        """A slot's record changed: remember it and write soon."""
        for slot in self._slots.values():
            if slot.record is not None and slot.record not in self._records:
                self._records.append(slot.record)
        self._changed.set()

    async def _read(self) -> tuple[Mapping[EngineSpec, int], Sequence[ServedAdapter]] | None:
        """What should be; None while the database is away."""
        try:
            desired = await asyncio.to_thread(self._store.desired)
            adapters = await asyncio.to_thread(self._store.adapters)
        except DBAPIError as error:
            if not _is_away(error):
                raise
            if not self._database_is_away:
                log.warning("database_away", error=str(error.orig))
            self._database_is_away = True
            return None
        if self._database_is_away:
            log.info("database_back")
        self._database_is_away = False
        return desired, adapters

    async def _save(self) -> None:
        """Write what the database does not know yet. What changes meanwhile is written the next time."""
        self._changed.clear()
        changed = [record for record in self._records if record.changed]
        copies = [replace(record) for record in changed]
        for record in changed:
            record.changed = False
        try:
            await asyncio.to_thread(self._store.save, copies, self._records)
        except DBAPIError as error:
            if not _is_away(error):
                raise
            for record in changed:
                record.changed = True
            return
        for record, copy in zip(changed, copies, strict=True):
            record.unwritten = record.unwritten[len(copy.unwritten) :]
        self._records = [record for record in self._records if record.changed or record.stopped_at is None]


def _is_away(error: DBAPIError) -> bool:
    """A database that is just being migrated is away, too."""
    return isinstance(error, OperationalError) or isinstance(error.orig, UndefinedTable | InsufficientPrivilege)


def free_ports_in_turn(base: int) -> Iterator[int]:
    """Ports for engines, round and round: one that was just given is not given again before its engine binds it."""
    return (port for port in cycle(range(base, base + _ENGINE_PORTS)) if is_free(port))


async def run(configured: Settings) -> None:
    """Be the node agent until SIGTERM or SIGINT."""
    process_tree.adopt_orphans()
    configured.engine_log_dir.mkdir(parents=True, exist_ok=True)
    store = ReplicaStore(engine_for(configured.database_url("node_agent"), pool_size=2))
    async with aiohttp.ClientSession() as http:
        node = Node(
            python=configured.engine_python,
            weights_dir=configured.weights_dir,
            adapters_dir=configured.weights_dir.absolute() / "_adapters",  # no weights id begins with an underscore
            log_dir=configured.engine_log_dir,
            store=ObjectStore.from_settings(configured),
            http=http,
            ports=free_ports_in_turn(configured.engine_port_base),
            fetching=asyncio.Lock(),
            starts=asyncio.Semaphore(max(1, (os.cpu_count() or 1) // 2)),
        )
        agent = NodeAgent(store, node)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, agent.stop)
        await agent.run()
    process_tree.end(lambda: process_tree.descendants(os.getpid()), 1.0)


def main() -> int:
    """Run under a guard: vLLM's own worker processes outlive an API server that is killed with us."""
    configured = settings()
    logs.configure(configured.log_format, configured.log_level, whole_process=True)
    return guarded(lambda: asyncio.run(run(configured)) or 0)


if __name__ == "__main__":
    sys.exit(main())
