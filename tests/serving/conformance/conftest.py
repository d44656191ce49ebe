"""One gateway for all checks of conformance: none of them breaks anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import TestServer
from tests.serving.conftest import House, furnished, stub_of
from tests.serving.gateway_process import GatewayProcess
from tests.stub_engine import StubEngine


@pytest.fixture(scope="package")
def house(server: TestServer) -> Iterator[House]:
    """One for all tests of this folder."""
    with furnished(server) as house:
        yield house


@pytest.fixture(scope="package")
def engine(house: House) -> Iterator[StubEngine]:
    """A stub engine that answers for chat (base and fast) and for embeddings."""
    with stub_of(house) as stub:
        yield stub


@pytest.fixture(scope="package")
def gateway(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway in front of `engine`."""
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway")) as process:
        yield process
