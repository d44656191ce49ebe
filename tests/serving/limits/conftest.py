"""A Valkey for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.limits.valkey_server import ValkeyServer


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """Runs."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()
