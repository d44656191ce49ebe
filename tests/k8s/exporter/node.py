"""A GPU node under test: the C library's cards, a kubelet on a real socket, and the exporter as a process."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import Structure, c_char, c_float, c_int, c_long, c_uint, c_ulonglong
from pathlib import Path
from typing import Any, ClassVar

import grpc
from prometheus_client.parser import text_string_to_metric_families

from k8s.exporter.settings import Settings
from k8s.kubelet.pod_resources_pb2 import (
    ContainerDevices,
    ContainerResources,
    ListPodResourcesRequest,
    ListPodResourcesResponse,
    PodResources,
)
from studio.settings import REPOSITORY
from tests.local.eventually import eventually

SOURCE = Path(__file__).with_name("mxsml.c")
RESOURCE = "metax-tech.com/gpu"

# In the order of `enum function`.
FUNCTIONS = (
    *("init", "count", "info", "version", "power", "limit", "temperature", "memory", "usage", "clocks", "throttle"),
    *("ecc", "pcie", "pcie_most", "throughput", "link_state", "ports", "bandwidth", "traffic", "unavailable"),
)
_PORTS = 7


class CardInLibrary(Structure):
    """`struct card` of mxsml.c."""

    _fields_: ClassVar[Any] = (
        ("present", c_int),
        ("results", c_int * len(FUNCTIONS)),
        ("uuid", c_char * 96),
        ("bdf", c_char * 32),
        ("name", c_char * 32),
        ("ways", c_uint),
        ("way_mw", c_uint * 6),
        ("limit_mw", c_uint),
        ("centidegrees", c_int * 16),
        ("vram_total_kb", c_long),
        ("vram_used_kb", c_long),
        ("usage_percent", c_int),
        ("xcore_mhz", c_uint * 2),
        ("memory_mhz", c_uint),
        ("throttle", c_ulonglong),
        ("ecc", c_uint * 5),
        ("pcie_gts", c_float),
        ("pcie_most_gts", c_float),
        ("pcie_lanes", c_uint),
        ("pcie_most_lanes", c_uint),
        ("pcie_received_mb", c_int),
        ("pcie_sent_mb", c_int),
        ("link_state", c_uint),
        ("port_states", c_uint * _PORTS),
        ("bandwidth_mb", (c_int * 2) * _PORTS * 2),
        ("traffic_bytes", (c_long * 2) * _PORTS * 2),
        ("unavailable_code", c_int),
        ("unavailable_reason", c_char * 64),
    )

    def answers(self, function: str, result: int) -> None:
        """From now on that function answers a code instead of a value; 0 ends it."""
        self.results[FUNCTIONS.index(function)] = result


class LibraryState(Structure):
    """`struct state` of mxsml.c."""

    _fields_: ClassVar[Any] = (
        ("init_result", c_int),
        ("hangs", c_int),
        ("inits", c_int),
        ("reinits", c_int),
        ("cards", CardInLibrary * 16),
        ("topology", (c_uint * 16) * 16),
    )


def compile_library(folder: Path, *flags: str) -> Path:
    """The library of mxsml.c."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "A C compiler is needed to test the exporter against a library of its ABI: apt-get install gcc."
    library = folder / f"libmxsml{''.join(flags)}.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", *flags, "-o", str(library), str(SOURCE)], check=True
    )
    return library


class GpuNode:
    """A folder with the state of the library, and everything that the exporter of this node is told."""

    def __init__(self, folder: Path, library: Path, cards: int) -> None:
        self.folder = folder
        self.library = library
        path = folder / "mxsml.state"
        path.write_bytes(bytes(ctypes.sizeof(LibraryState)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.state = LibraryState.from_buffer(self._memory)
        self.environment = {"MXSML_STATE": str(path)}
        for number in range(cards):
            self._furnish(self.state.cards[number], number)

    @property
    def cards(self) -> Sequence[CardInLibrary]:
        """Those of the library, by slot."""
        cards: Sequence[CardInLibrary] = self.state.cards
        return cards

    def settings(self, **changed: Any) -> Settings:
        """Of an exporter of this node; fast, and without a fallback unless one is given."""
        given: dict[str, Any] = {
            "port": 0,
            "node": "node-1",
            "library": self.library,
            "mx_smi": "",
            "period_seconds": 0.05,
            "records": self.folder / "records.json",
            "pod_resources": self.folder / "kubelet.sock",
        }
        return Settings(**(given | changed))

    @staticmethod
    def _furnish(card: CardInLibrary, number: int) -> None:
        card.present = 1
        card.uuid = f"GPU-{number:04d}".encode()
        card.bdf = f"0000:{number + 6:02x}:00.0".encode()
        card.name = b"MXC500"
        card.ways, card.limit_mw = 1, 350_000
        card.way_mw[0] = 100_000
        card.centidegrees[0], card.centidegrees[1] = 4150, 9500
        card.vram_total_kb, card.vram_used_kb = 65_536 * 1024, 1024
        card.xcore_mhz[0] = 1500
        card.pcie_gts, card.pcie_lanes, card.pcie_most_gts, card.pcie_most_lanes = 32, 16, 32, 16
        for port in range(_PORTS):
            card.port_states[port] = 1


class Kubelet:
    """The pod-resources service of a kubelet on a unix socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._pods: dict[tuple[str, str], PodResources] = {}
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._list,
            request_deserializer=ListPodResourcesRequest.FromString,
            response_serializer=ListPodResourcesResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": handler}),)
        )
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def run(self, namespace: str, pod: str, *device_ids: str, resource: str = RESOURCE) -> None:
        """A pod whose container `engine` holds devices."""
        devices = ContainerDevices(resource_name=resource, device_ids=device_ids)
        container = ContainerResources(name="engine", devices=[devices])
        self._pods[namespace, pod] = PodResources(name=pod, namespace=namespace, containers=[container])

    def remove(self, namespace: str, pod: str) -> None:
        """The pod is gone."""
        del self._pods[namespace, pod]

    def stop(self) -> None:
        """The kubelet is away, its socket too."""
        self._server.stop(None).wait()
        self._socket.unlink(missing_ok=True)

    def _list(self, request: ListPodResourcesRequest, context: object) -> ListPodResourcesResponse:
        return ListPodResourcesResponse(pod_resources=self._pods.values())


class Exposition:
    """Samples of one scrape, parsed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The one sample with these labels; an AssertionError that shows the others when it is not there."""
        found = self.values(name, **labels)
        assert len(found) == 1, (name, labels, [s for s in self.samples if s.name == name])
        return found[0]

    def values(self, name: str, **labels: str) -> list[float]:
        """Of all samples with these labels."""
        return [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    def labels(self, name: str, **labels: str) -> list[Mapping[str, str]]:
        """Of all samples with these labels."""
        return [s.labels for s in self.samples if s.name == name and labels.items() <= s.labels.items()]


class ExporterProcess:
    """`python -m k8s.exporter` on a node, on a port that is free."""

    def __init__(self, node: GpuNode, **changed: Any) -> None:
        settings = node.settings(**changed)
        told = {f"STUDIO_EXPORTER_{name.upper()}": str(getattr(settings, name)) for name in settings.__slots__}
        self._log = node.folder / "exporter.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "k8s.exporter"],
                cwd=REPOSITORY,
                env=os.environ | node.environment | told,
                stderr=log,
            )
        eventually(self._is_started, "the exporter has started")
        self._port = next(event["port"] for event in self._events() if event["event"] == "exporter_started")

    @property
    def address(self) -> str:
        """Where Prometheus finds it."""
        return f"127.0.0.1:{self._port}"

    def get(self, path: str) -> bytes:
        """The body of an answer with status 200."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def scrape(self) -> Exposition:
        """What Prometheus would see now."""
        return Exposition(self.get("/metrics").decode())

    def health(self) -> dict[str, Any]:
        """What the kubelet would see now."""
        health: dict[str, Any] = json.loads(self.get("/healthz"))
        return health

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status, once it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout=20)

    def _is_started(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return any(event["event"] == "exporter_started" for event in self._events())

    def _events(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("}\n")]
