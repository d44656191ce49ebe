"""A node agent under test: the process, the tables it works on, and what the tests ask of both."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from local import process_tree
from studio import clock
from studio.db.fleet import DesiredReplicas, EngineCounters, Replica
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore
from studio.settings import REPOSITORY
from studio.weights import Manifest, describe, publish
from tests.local.eventually import eventually

VARIANT = "smollm2-135m-instruct"


@dataclass(frozen=True)
class NodeUnderTest:
    """A node agent, the tables it works on, and what it may use."""

    folder: Path
    environment: dict[str, str]
    worker: Engine

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The agent, stopped in the end as the supervisor stops it."""
        with (self.folder / "agent.log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "local.node_agent"],
                cwd=REPOSITORY,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        try:
            yield agent
        finally:
            agent.terminate()
            agent.wait(timeout=30)

    def want(self, replicas: int) -> None:
        """Decide, as the fleet sensor does."""
        values = {"replicas": replicas, "reason": "a test", "decided_at": clock.now()}
        statement = insert(DesiredReplicas).values(variant_id=VARIANT, **values)
        with unit_of_work(self.worker) as session:
            session.execute(statement.on_conflict_do_update(index_elements=[DesiredReplicas.variant_id], set_=values))

    def replicas(self) -> list[Replica]:
        """All rows, oldest first."""
        with unit_of_work(self.worker) as session:
            return list(session.scalars(select(Replica).order_by(Replica.created_at)))

    def counters(self) -> list[tuple[int, int]]:
        """Prompt and completion tokens as written down, in order."""
        columns = (EngineCounters.prompt_tokens, EngineCounters.completion_tokens)
        with unit_of_work(self.worker) as session:
            return list(session.execute(select(*columns).order_by(EngineCounters.observed_at)).tuples())

    def states(self) -> list[str]:
        """Of all replicas, oldest first."""
        return [replica.state for replica in self.replicas()]

    def ready(self) -> Replica:
        """The newest replica, once it is ready."""
        eventually(lambda: self.states()[-1:] == ["ready"], f"a replica is ready; {self.log()}")
        return self.replicas()[-1]

    def log(self) -> str:
        """What the agent said."""
        return (self.folder / "agent.log").read_text()

    def engines(self) -> list[int]:
        """Engine processes that run."""
        return [pid for pid in process_tree.writing_into(self.folder / "logs") if process_tree.is_running(pid)]


def push(store: ObjectStore, folder: Path) -> None:
    """Make a folder the weights of the variant."""
    manifest = Manifest(VARIANT, "Apache-2.0", describe(folder))
    for file in manifest.files:
        store.put(Bucket.MODELZOO, manifest.object_key(file), (folder / file.path).read_bytes())
    publish(store, manifest)


def chat(replica: Replica, tokens: int) -> httpx.Response:
    """A request straight to an engine."""
    body = {"model": VARIANT, "messages": [{"role": "user", "content": "one two three"}], "max_tokens": tokens}
    return httpx.post(f"{replica.url}/v1/chat/completions", json=body, timeout=30)
