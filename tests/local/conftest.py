"""Fixtures of the one-machine stack: a node agent whose engines are stubs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from local.objects import EmbeddedObjectStore
from tests.local.node import NodeUnderTest, push
from tests.local.servers import client
from tests.server import TestDatabase, free_port


@pytest.fixture
def node_environment(tmp_path: Path, database: TestDatabase, objects: EmbeddedObjectStore) -> dict[str, str]:
    """What every node agent needs; its engine interpreter is the one of the settings."""
    return {
        **database.environment("node_agent"),
        **objects.environment,
        "STUDIO_ENGINE_PORT_BASE": str(free_port()),
        "STUDIO_ENGINE_LOG_DIR": str(tmp_path / "logs"),
        "STUDIO_WEIGHTS_DIR": str(tmp_path / "weights"),
    }


@pytest.fixture
def node(
    tmp_path: Path, catalog: None, worker: Engine, objects: EmbeddedObjectStore, node_environment: dict[str, str]
) -> Iterator[NodeUnderTest]:
    """A node whose engine interpreter starts the stub instead of vLLM, at 20 tokens per second."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    push(client(objects, objects.secrets.s3_secret_key), model)
    engine = tmp_path / "engine"
    stub = f'"{sys.executable}" -m benchmarks.stub_engine --tokens-per-second 20 --port "$6"'
    engine.write_text(f"#!/bin/sh\nexec {stub}\n")
    engine.chmod(0o755)
    node = NodeUnderTest(tmp_path, {**node_environment, "STUDIO_ENGINE_PYTHON": str(engine)}, worker)
    yield node
    assert not node.engines()
