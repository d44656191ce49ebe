"""The node agent as a process: desired replicas in, engines and their rows out. The engines here are stubs, quick and
countable; `test_real_engine.py` shows the same promises on vLLM."""

from __future__ import annotations

import os
import signal
import threading

import httpx
from sqlalchemy import select

from local import process_tree
from local.objects import EmbeddedObjectStore
from studio.db.fleet import Warmup
from studio.db.sessions import unit_of_work
from studio.objects import Bucket
from studio.weights import read_manifest
from tests.local.eventually import eventually
from tests.local.node import VARIANT, NodeUnderTest, chat
from tests.local.servers import client
from tests.server import TestDatabase


def test_a_wanted_replica_becomes_ready_and_is_drained_when_no_longer_wanted(node: NodeUnderTest) -> None:
    node.want(1)
    with node.running():
        replica = node.ready()
        assert replica.kind == "process"
        assert replica.engine_model == VARIANT
        assert replica.pid in node.engines()
        assert (replica.baseline_prompt_tokens, replica.baseline_completion_tokens) == (1, 1)
        with unit_of_work(node.worker) as session:
            warmup = session.scalars(select(Warmup)).one()
        assert warmup.replica_id == replica.id
        assert warmup.start_seconds > 0

        answers: list[httpx.Response] = []
        request = threading.Thread(target=lambda: answers.append(chat(replica, tokens=60)))  # three seconds
        request.start()
        eventually(lambda: "draining" in _drained(node), "the replica drains")
        assert node.engines(), "an engine that is still answering must not be stopped"
        request.join()
        assert answers[0].json()["usage"]["completion_tokens"] == 60
        eventually(lambda: node.states() == ["stopped"], "the replica has stopped")
        assert node.counters()[-1] == (4, 61)


def _drained(node: NodeUnderTest) -> list[str]:
    node.want(0)
    return node.states()


def test_counters_are_written_when_the_engine_has_come_to_rest(node: NodeUnderTest) -> None:
    node.want(1)
    with node.running():
        replica = node.ready()
        chat(replica, tokens=5)
        eventually(lambda: node.counters() == [(4, 6)], "the engine's totals are in the table")
        chat(replica, tokens=7)
        eventually(lambda: node.counters() == [(4, 6), (7, 13)], "and again after the next request")


def test_a_crashed_engine_is_a_failed_replica_and_is_replaced(node: NodeUnderTest) -> None:
    node.want(1)
    with node.running():
        first = node.ready()
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: node.states() == ["failed", "ready"], "another replica is ready")
        failed, second = node.replicas()
        assert failed.reason is not None
        assert failed.reason.startswith("killed by SIGKILL")
        assert failed.stopped_at is not None
        assert second.url != failed.url


def test_kill_9_of_the_agent_leaves_no_engine_and_the_next_one_closes_the_row(node: NodeUnderTest) -> None:
    node.want(1)
    with node.running() as agent:
        node.ready()
        (worker,) = process_tree.children(agent.pid)  # the agent itself is its guard
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not node.engines(), "the engine ended with its agent")
    with node.running():
        eventually(lambda: node.states() == ["failed", "ready"], "a new replica is ready")
        assert node.replicas()[0].reason == "the node agent that ran it ended"


def test_scaling_starts_and_drains_single_replicas(node: NodeUnderTest) -> None:
    node.want(2)
    with node.running():
        eventually(lambda: node.states() == ["ready", "ready"], "both are ready")
        first, second = node.replicas()
        assert first.url != second.url
        node.want(1)
        eventually(lambda: sorted(node.states()) == ["ready", "stopped"], "one is stopped")
        assert len(node.engines()) == 1


def test_weights_with_other_bytes_than_the_manifest_never_reach_an_engine(
    node: NodeUnderTest, objects: EmbeddedObjectStore
) -> None:
    store = client(objects, objects.secrets.s3_secret_key)
    manifest = read_manifest(store, VARIANT)
    (weights,) = [file for file in manifest.files if file.path.endswith("safetensors")]
    store.put(Bucket.MODELZOO, manifest.object_key(weights), b"Weights")
    node.want(1)
    with node.running():
        eventually(lambda: "has not the manifest's SHA-256" in node.log(), "the agent refuses the weights")
        assert not node.replicas()


def test_engines_go_on_while_the_database_is_away(node: NodeUnderTest, database: TestDatabase) -> None:
    node.want(1)
    with node.running():
        replica = node.ready()
        with database.superuser() as superuser:
            superuser.execute("alter role studio_node_agent nologin")
            try:
                superuser.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'studio_node_agent'"
                )
                eventually(lambda: "database_away" in node.log(), "the agent has noticed")
                chat(replica, tokens=3)
            finally:
                superuser.execute("alter role studio_node_agent login")
        eventually(lambda: node.counters() == [(4, 4)], "what happened meanwhile is written down")
        assert node.states() == ["ready"]
