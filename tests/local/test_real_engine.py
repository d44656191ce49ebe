"""The node agent with vLLM itself and the embedded chat model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from local import process_tree
from local.objects import EmbeddedObjectStore
from serving.tokens.engine_request import cache_salt
from studio import ids
from studio.db.fleet import Replica
from studio.settings import REPOSITORY
from tests.local.eventually import eventually
from tests.local.node import VARIANT, NodeUnderTest, chat, push
from tests.local.servers import client

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

START_SECONDS = 300.0  # about 30 s on two quiet cores


@pytest.fixture
def node(
    tmp_path: Path, catalog: None, worker: Engine, objects: EmbeddedObjectStore, node_environment: dict[str, str]
) -> Iterator[NodeUnderTest]:
    """A node with the engine environment, and the chat model's weights in the object store."""
    push(client(objects, objects.secrets.s3_secret_key), REPOSITORY / "build" / "models" / VARIANT)
    node = NodeUnderTest(tmp_path, node_environment, worker)
    yield node
    assert not node.engines()


def test_vllm_answers_counts_and_leaves_nothing_when_its_agent_is_killed(node: NodeUnderTest) -> None:
    node.want(1)
    with node.running() as agent:
        eventually(lambda: node.states() == ["ready"], "vLLM is ready", START_SECONDS)
        (replica,) = node.replicas()
        assert replica.baseline_completion_tokens == 1
        engines = node.engines()
        assert len(engines) > 1, "vLLM runs its core in a process of its own"
        assert {os.getpgid(pid) for pid in engines} == {replica.pid}, "all of it ends with its process group"

        usage = chat(replica, tokens=5).json()["usage"]
        counted = (
            replica.baseline_prompt_tokens + usage["prompt_tokens"],
            replica.baseline_completion_tokens + usage["completion_tokens"],
        )
        eventually(lambda: node.counters() == [counted], "the engine's own totals are written down")
        assert_salts_part_what_would_be_shared(replica)

        (worker,) = process_tree.children(agent.pid)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not node.engines(), "API server and engine core are gone")


def assert_salts_part_what_would_be_shared(replica: Replica) -> None:
    """Without one the engine's cache is everybody's, and with the salts of two tenants it is not. Through gateways:
    `tests/e2e/test_isolation.py`."""
    text = " ".join(f"word{number}" for number in range(400))
    ours, theirs = (cache_salt(b"a secret of the tests", ids.uuid7(), "") for _ in range(2))

    def ask(**salt: str) -> tuple[int, int]:
        body = {"model": VARIANT, "messages": [{"role": "user", "content": text}], "max_tokens": 1} | salt
        usage = httpx.post(f"{replica.url}/v1/chat/completions", json=body, timeout=120).json()["usage"]
        return usage["prompt_tokens"], (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0

    tokens, cached = ask()
    assert cached < 64, "at most the template's own beginning"
    assert ask()[1] > 0.9 * tokens, "without a salt the second one who asks hits"
    assert ask(cache_salt=ours)[1] == 0
    assert ask(cache_salt=theirs)[1] == 0
    assert ask(cache_salt=theirs)[1] > 0.9 * tokens, "the salt parts tenants, it does not switch the cache off"
