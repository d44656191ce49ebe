"""The device plugin as a kubelet sees it: registration, the list of cards and their health, allocation, its restart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import grpc
import pytest

from k8s.device_plugin.choice import choose
from k8s.kubelet.device_plugin_pb2 import (
    AllocateRequest,
    AllocateResponse,
    ContainerAllocateRequest,
    ContainerPreferredAllocationRequest,
    Empty,
    ListAndWatchResponse,
    PreferredAllocationRequest,
    PreferredAllocationResponse,
    RegisterRequest,
)
from studio.settings import REPOSITORY
from tests.k8s.exporter.node import RESOURCE, GpuNode

CARDS = [f"GPU-000{number}" for number in range(4)]


class TestKubelet:
    """The side of the kubelet: takes a registration, then asks the plugin over its socket."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._registrations: Queue[RegisterRequest] = Queue()
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=RegisterRequest.FromString,
            response_serializer=Empty.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler}),)
        )
        self._server.add_insecure_port(f"unix://{folder / 'kubelet.sock'}")
        self._server.start()
        self._channel: grpc.Channel | None = None

    def registration(self) -> RegisterRequest:
        """The next one; the plugin is asked at its endpoint from then on."""
        request = self._registrations.get(timeout=20)
        self._channel = grpc.insecure_channel(f"unix://{self._folder / request.endpoint}")
        return request

    def watch(self) -> Queue[dict[str, str]]:
        """Health by device, each time that the plugin says something new."""
        assert self._channel is not None
        stream = self._channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=Empty.SerializeToString,
            response_deserializer=ListAndWatchResponse.FromString,
        )(Empty())
        said: Queue[dict[str, str]] = Queue()

        def listen() -> None:
            try:
                for response in stream:
                    self.numa = {d.ID: [node.ID for node in d.topology.nodes] for d in response.devices}
                    said.put({device.ID: device.health for device in response.devices})
            except grpc.RpcError:
                return  # the plugin or this kubelet has ended

        Thread(target=listen, daemon=True).start()
        return said

    def ask(self, method: str, request: Any, response: Any) -> Any:
        """One question."""
        assert self._channel is not None
        return self._channel.unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )(request, timeout=10)

    def lose_the_stream(self) -> None:
        """As when a connection breaks: the kubelet stays, and does not listen any more."""
        assert self._channel is not None
        self._channel.close()

    def stop(self) -> None:
        """Away, with its socket."""
        if self._channel is not None:
            self._channel.close()
        self._server.stop(None).wait()
        (self._folder / "kubelet.sock").unlink(missing_ok=True)

    def _register(self, request: RegisterRequest, context: object) -> Empty:
        self._registrations.put(request)
        return Empty()


@pytest.fixture
def folder(node: GpuNode) -> Iterator[Path]:
    """The kubelet's folder of plugins, on a node with device files, beside a running plugin."""
    folder = node.folder / "plugins"
    dev, pci = node.folder / "dev", node.folder / "pci"
    (dev / "dri").mkdir(parents=True)
    (dev / "mxcd").touch()
    for number in range(4):
        card = pci / f"0000:{number + 6:02x}:00.0"
        for name in (f"card{number + 1}", f"renderD{number + 129}", "controlD64"):
            (card / "drm" / name).mkdir(parents=True)
        (card / "numa_node").write_text(f"{number // 2}\n")
    folder.mkdir()
    told = {"library": node.library, "folder": folder, "period_seconds": 0.05, "dev": dev, "pci": pci}
    told |= {"stale_after_seconds": 0.5}
    with (node.folder / "plugin.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "k8s.device_plugin"],
            cwd=REPOSITORY,
            env=os.environ
            | node.environment
            | {f"STUDIO_DEVICE_PLUGIN_{name.upper()}": str(value) for name, value in told.items()},
            stderr=log,
        )
    yield folder
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert not (folder / "studio-gpu.sock").exists()  # a kubelet must not find a socket that nobody serves


@pytest.fixture
def kubelet(folder: Path) -> Iterator[TestKubelet]:
    """Started after the plugin, as after a reboot it may be."""
    kubelet = TestKubelet(folder)
    yield kubelet
    kubelet.stop()


def until(said: Queue[dict[str, str]], wanted: dict[str, str]) -> None:
    """Read on until the plugin says that."""
    while said.get(timeout=20) != wanted:
        pass


def test_cards_are_registered_watched_and_given_with_their_files(
    node: GpuNode, folder: Path, kubelet: TestKubelet
) -> None:
    request = kubelet.registration()
    assert (request.version, request.resource_name) == ("v1beta1", RESOURCE)
    assert request.options.get_preferred_allocation_available
    said = kubelet.watch()
    healthy = dict.fromkeys(CARDS, "Healthy")
    until(said, healthy)
    assert kubelet.numa == {"GPU-0000": [0], "GPU-0001": [0], "GPU-0002": [1], "GPU-0003": [1]}

    # Lost, numbered anew without it, and back; a card that says it takes no work; the driver away.
    node.cards[1].present = 0
    until(said, healthy | {"GPU-0001": "Unhealthy"})
    node.cards[1].present = 1
    until(said, healthy)
    node.cards[2].unavailable_code, node.cards[2].unavailable_reason = 7, b"memory error"
    until(said, healthy | {"GPU-0002": "Unhealthy"})
    node.cards[2].unavailable_code = 0
    until(said, healthy)

    asked = AllocateRequest(container_requests=[ContainerAllocateRequest(devices_ids=["GPU-0001", "GPU-0003"])])
    (given,) = kubelet.ask("Allocate", asked, AllocateResponse).container_responses
    dev = node.folder / "dev"
    names = ["mxcd", "dri/card2", "dri/renderD130", "dri/card4", "dri/renderD132"]
    assert [(of.host_path, of.container_path, of.permissions) for of in given.devices] == [
        (str(dev / name), str(dev / name), "rw") for name in names
    ]


def test_what_must_not_be_given_is_refused_with_the_reason(node: GpuNode, folder: Path, kubelet: TestKubelet) -> None:
    kubelet.registration()
    said = kubelet.watch()
    until(said, dict.fromkeys(CARDS, "Healthy"))

    def refused(*containers: list[str]) -> tuple[grpc.StatusCode, str]:
        asked = [ContainerAllocateRequest(devices_ids=uuids) for uuids in containers]
        with pytest.raises(grpc.RpcError) as refusal:
            kubelet.ask("Allocate", AllocateRequest(container_requests=asked), AllocateResponse)
        return refusal.value.code(), refusal.value.details()

    assert refused(["GPU-9999"]) == (grpc.StatusCode.NOT_FOUND, "GPU-9999 is no card of this node")
    twice = (grpc.StatusCode.INVALID_ARGUMENT, "GPU-0000 is asked for twice: a card is given as a whole")
    assert refused(["GPU-0000", "GPU-0000"]) == refused(["GPU-0000"], ["GPU-0000"]) == twice
    node.cards[1].present = 0
    until(said, dict.fromkeys(CARDS, "Healthy") | {"GPU-0001": "Unhealthy"})
    unhealthy = (grpc.StatusCode.FAILED_PRECONDITION, "GPU-0001 is unhealthy: it may not be given")
    assert refused(["GPU-0000", "GPU-0001"]) == unhealthy
    shutil.rmtree(node.folder / "pci/0000:08:00.0/drm")
    assert refused(["GPU-0002"]) == (grpc.StatusCode.NOT_FOUND, "GPU-0002 has no device files on this node")


def test_while_the_driver_hangs_no_card_is_healthy(node: GpuNode, kubelet: TestKubelet) -> None:
    kubelet.registration()
    said = kubelet.watch()
    until(said, dict.fromkeys(CARDS, "Healthy"))
    node.state.hangs = 1
    try:
        until(said, dict.fromkeys(CARDS, "Unhealthy"))
    finally:
        node.state.hangs = 0
    until(said, dict.fromkeys(CARDS, "Healthy"))


def test_a_kubelet_that_has_lost_the_stream_is_told_again(kubelet: TestKubelet) -> None:
    kubelet.registration()
    until(kubelet.watch(), dict.fromkeys(CARDS, "Healthy"))
    kubelet.lose_the_stream()
    assert kubelet.registration().resource_name == RESOURCE
    until(kubelet.watch(), dict.fromkeys(CARDS, "Healthy"))


def test_linked_cards_are_preferred(node: GpuNode, kubelet: TestKubelet) -> None:
    for first in range(4):
        for second in range(4):
            node.state.topology[first][second] = 5 if {first, second} in ({0, 3}, {1, 2}) else 6
    kubelet.registration()
    until(kubelet.watch(), dict.fromkeys(CARDS, "Healthy"))
    requests = [
        ContainerPreferredAllocationRequest(available_deviceIDs=CARDS, allocation_size=2),
        ContainerPreferredAllocationRequest(
            available_deviceIDs=CARDS, must_include_deviceIDs=["GPU-0002"], allocation_size=2
        ),
        ContainerPreferredAllocationRequest(available_deviceIDs=CARDS[1:], allocation_size=1),
    ]
    answer = kubelet.ask(
        "GetPreferredAllocation", PreferredAllocationRequest(container_requests=requests), PreferredAllocationResponse
    )
    chosen = [list(of.deviceIDs) for of in answer.container_responses]
    assert chosen == [["GPU-0000", "GPU-0003"], ["GPU-0002", "GPU-0001"], ["GPU-0003"]]
    too_many = ContainerPreferredAllocationRequest(available_deviceIDs=CARDS, allocation_size=5)
    with pytest.raises(grpc.RpcError, match="cannot be chosen"):
        kubelet.ask(
            "GetPreferredAllocation",
            PreferredAllocationRequest(container_requests=[too_many]),
            PreferredAllocationResponse,
        )


@pytest.mark.parametrize("empties_folder", [True, False])  # a kubelet does; one that does not is served all the same
def test_a_kubelet_that_is_started_again_is_told_again(
    folder: Path, kubelet: TestKubelet, empties_folder: bool
) -> None:
    kubelet.registration()
    until(kubelet.watch(), dict.fromkeys(CARDS, "Healthy"))
    kubelet.stop()
    for socket in folder.iterdir() if empties_folder else ():
        socket.unlink()
    again = TestKubelet(folder)
    try:
        assert again.registration().resource_name == RESOURCE
        until(again.watch(), dict.fromkeys(CARDS, "Healthy"))
    finally:
        again.stop()


def test_without_any_topology_the_first_cards_are_chosen() -> None:
    assert choose(["c", "b", "a"], [], 2, {}) == ["a", "b"]
