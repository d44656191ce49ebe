"""The kubelet's questions over our socket, and our registration over its."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from k8s.device_plugin import inventory
from k8s.device_plugin.choice import choose
from k8s.device_plugin.inventory import CardAskedTwice, CardUnhealthy, CardUnknown, Inventory
from k8s.kubelet.device_plugin_pb2 import (
    AllocateRequest,
    AllocateResponse,
    ContainerAllocateResponse,
    ContainerPreferredAllocationResponse,
    Device,
    DevicePluginOptions,
    DeviceSpec,
    Empty,
    ListAndWatchResponse,
    NUMANode,
    PreferredAllocationRequest,
    PreferredAllocationResponse,
    RegisterRequest,
    TopologyInfo,
)

VERSION = "v1beta1"
ENDPOINT = "studio-gpu.sock"
_REGISTER_SECONDS = 5.0
_OPTIONS = DevicePluginOptions(get_preferred_allocation_available=True)
_REFUSALS = {
    CardUnknown: grpc.StatusCode.NOT_FOUND,
    CardUnhealthy: grpc.StatusCode.FAILED_PRECONDITION,
    CardAskedTwice: grpc.StatusCode.INVALID_ARGUMENT,
}
_WATCH_SECONDS = 1.0  # how soon a stream notices that its kubelet is gone


class DevicePluginService:
    """Serves one inventory on one socket."""

    def __init__(self, cards: Inventory, socket: Path) -> None:
        self._inventory = cards
        self._socket = socket
        self._server: grpc.Server | None = None
        self._watching: set[grpc.ServicerContext] = set()
        self._was_watched = False

    @property
    def is_abandoned(self) -> bool:
        """Whether a kubelet has listened and does not any more. It will not come back by itself."""
        return self._was_watched and not self._watching

    def serve(self) -> None:
        """Anew: a kubelet that starts empties the folder of its plugins' sockets."""
        self.stop()
        self._socket.unlink(missing_ok=True)
        self._watching, self._was_watched = set(), False
        self._server = grpc.server(ThreadPoolExecutor(8, thread_name_prefix="kubelet"))
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._server.add_insecure_port(f"unix://{self._socket}")
        self._server.start()

    def stop(self) -> None:
        """Ends all streams and takes the socket away."""
        if self._server is not None:
            self._server.stop(None).wait()
        self._socket.unlink(missing_ok=True)

    def _handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "v1beta1.DevicePlugin",
            {
                "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(
                    lambda request, context: _OPTIONS,
                    request_deserializer=Empty.FromString,
                    response_serializer=DevicePluginOptions.SerializeToString,
                ),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self._list_and_watch,
                    request_deserializer=Empty.FromString,
                    response_serializer=ListAndWatchResponse.SerializeToString,
                ),
                "GetPreferredAllocation": grpc.unary_unary_rpc_method_handler(
                    self._prefer,
                    request_deserializer=PreferredAllocationRequest.FromString,
                    response_serializer=PreferredAllocationResponse.SerializeToString,
                ),
                "Allocate": grpc.unary_unary_rpc_method_handler(
                    self._allocate,
                    request_deserializer=AllocateRequest.FromString,
                    response_serializer=AllocateResponse.SerializeToString,
                ),
            },
        )

    def _list_and_watch(self, request: Empty, context: grpc.ServicerContext) -> Iterator[ListAndWatchResponse]:
        watching = self._watching
        watching.add(context)
        self._was_watched = True
        try:
            shown = None
            while context.is_active():
                with self._inventory.changed:
                    if self._inventory.shown() == shown:
                        self._inventory.changed.wait(_WATCH_SECONDS)
                    devices = self._inventory.shown()
                if devices != shown:
                    shown = devices
                    yield ListAndWatchResponse(devices=[_told(uuid, device) for uuid, device in devices.items()])
        finally:
            watching.discard(context)

    def _prefer(
        self, request: PreferredAllocationRequest, context: grpc.ServicerContext
    ) -> PreferredAllocationResponse:
        try:
            chosen = [
                choose(of.available_deviceIDs, of.must_include_deviceIDs, of.allocation_size, self._inventory.levels)
                for of in request.container_requests
            ]
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return PreferredAllocationResponse(
            container_responses=[ContainerPreferredAllocationResponse(deviceIDs=ids) for ids in chosen]
        )

    def _allocate(self, request: AllocateRequest, context: grpc.ServicerContext) -> AllocateResponse:
        try:
            files = self._inventory.give([of.devices_ids for of in request.container_requests])
        except (CardUnknown, CardUnhealthy, CardAskedTwice) as error:
            context.abort(_REFUSALS[type(error)], error.message)
        return AllocateResponse(
            container_responses=[
                ContainerAllocateResponse(
                    devices=[
                        DeviceSpec(container_path=str(path), host_path=str(path), permissions="rw") for path in paths
                    ]
                )
                for paths in files
            ]
        )


def _told(uuid: str, device: inventory.Device) -> Device:
    """A card in the kubelet's words."""
    nodes = None if device.numa_node is None else TopologyInfo(nodes=[NUMANode(ID=device.numa_node)])
    return Device(ID=uuid, health="Healthy" if device.is_healthy else "Unhealthy", topology=nodes)


def register(kubelet: Path, resource: str) -> None:
    """Tell the kubelet where we are. grpc.RpcError when it does not answer or does not want us."""
    request = RegisterRequest(version=VERSION, endpoint=ENDPOINT, resource_name=resource, options=_OPTIONS)
    with grpc.insecure_channel(f"unix://{kubelet}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        channel.unary_unary(
            "/v1beta1.Registration/Register",
            request_serializer=RegisterRequest.SerializeToString,
            response_deserializer=Empty.FromString,
        )(request, timeout=_REGISTER_SECONDS)
