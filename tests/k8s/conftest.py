"""What tests here share: a C library compiled once, a node with four cards for each test, one API server."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from k8s.exporter.exposition import CardCollector, ScrapeCost
from k8s.exporter.sampler import Sampler
from k8s.exporter.settings import Settings
from studio.cluster.connection import Cluster
from tests.k8s.control_plane import ControlPlane, GivenCluster, assets, running
from tests.k8s.exporter.node import ExporterProcess, Exposition, GpuNode, Kubelet, compile_library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the version that we know best."""
    return compile_library(tmp_path_factory.mktemp("mxsml"))


@pytest.fixture
def node(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> GpuNode:
    """Four healthy cards. The library of this process looks at them from its next initialisation on."""
    node = GpuNode(tmp_path, library, cards=4)
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    ctypes.CDLL(str(library)).forget_state()
    return node


@pytest.fixture
def kubelet(node: GpuNode) -> Iterator[Kubelet]:
    """The kubelet of that node; no pod holds a card yet."""
    kubelet = Kubelet(node.folder / "kubelet.sock")
    yield kubelet
    kubelet.stop()


class InProcess:
    """An exporter without its server: a pass happens when the test says so."""

    def __init__(self, settings: Settings) -> None:
        self.sampler = Sampler(settings)
        self._registry = CollectorRegistry()
        self._registry.register(CardCollector(self.sampler, settings.host_label, 60, ScrapeCost()))

    def after_a_pass(self) -> Exposition:
        """One pass, then a scrape."""
        self.sampler.sample()
        return self.scrape()

    def scrape(self) -> Exposition:
        """What was last seen."""
        return Exposition(generate_latest(self._registry).decode())


@pytest.fixture
def exporter(node: GpuNode) -> InProcess:
    """The exporter of that node, no pass made yet."""
    return InProcess(node.settings())


class Exporters:
    """Exporters of one node, one after another."""

    def __init__(self, node: GpuNode) -> None:
        self._node = node
        self._running: ExporterProcess | None = None

    def start(self, **changed: Any) -> ExporterProcess:
        """With these settings changed."""
        self._running = ExporterProcess(self._node, **changed)
        return self._running

    def end(self) -> None:
        """Of the last one, if it still runs."""
        if self._running is not None:
            self._running.end()


@pytest.fixture
def exporters(node: GpuNode) -> Iterator[Exporters]:
    """Started by the test, ended with it."""
    exporters = Exporters(node)
    yield exporters
    exporters.end()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server for all tests of a process that keep to names of their own: each takes seconds to start."""
    with running(assets(), tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def given(request: pytest.FixtureRequest) -> ControlPlane:
    """The cluster of whoever runs the tests, if they say so; ours otherwise. Only by a kubeconfig, in both cases."""
    return GivenCluster.named() or GivenCluster(request.getfixturevalue("plane").kubeconfig)


@pytest.fixture
def namespace(given: ControlPlane) -> Iterator[str]:
    """Of this test alone."""
    name = f"studio-test-{secrets.token_hex(4)}"
    given.succeed("kubectl", "create", "namespace", name)
    yield name
    given.succeed("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.fixture
def cluster(given: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """What our code sees of it."""
    monkeypatch.setenv("KUBECONFIG", str(given.kubeconfig))
    with closing(Cluster.from_environment()) as cluster:
        yield cluster
