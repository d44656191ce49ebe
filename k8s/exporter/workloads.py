"""Who works on a card: the container by the kubelet, and model, variant and tenant by a mapping of pod names.

The kubelet's pod-resources API names pods and their devices, not their labels. To read labels the exporter would need
a token for all pods of the cluster; instead whoever made the names writes what they mean, in a cluster
`studio/cluster/card_holders.py`:

    [{"namespace": "engines", "pod": "engine-qwen3-32b-fast-*", "model": "qwen3-32b", "variant": "qwen3-32b-fast"},
     {"namespace": "tenant-acme", "pod": "*", "tenant": "acme"},
     {"namespace": "training", "pod": "*"}]

A line that names none of the three is for pods that have ended: kubelets before Kubernetes 1.34 list those, too
(kubernetes#132020), and a card that they held may be another's by now.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import grpc
import structlog

from k8s.exporter.cards import Card
from k8s.kubelet.pod_resources_pb2 import ListPodResourcesRequest, ListPodResourcesResponse

log = structlog.get_logger()

_LIST = "/v1.PodResourcesLister/List"
_TIMEOUT_SECONDS = 2.0
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 16 * 1024 * 1024))


@dataclass(frozen=True, slots=True)
class Holder:
    """A container and the ids of the devices that it was given."""

    namespace: str
    pod: str
    container: str
    device_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """One container at work on one card; texts are empty where nobody says."""

    namespace: str
    pod: str
    container: str
    model: str = ""
    variant: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What pods of a namespace work for. `pod` is a pattern as of the shell."""

    namespace: str
    pod: str
    model: str = ""
    variant: str = ""
    tenant: str = ""

    @property
    def is_of_nobody(self) -> bool:
        """Whether its pods have ended."""
        return not (self.model or self.variant or self.tenant)


@dataclass(frozen=True, slots=True)
class Holdings:
    """Who works on which card, and what could not be said."""

    workloads: Mapping[str, Sequence[Workload]]  # by the card's uuid
    unknown_devices: int  # ids that are none of a card
    unnamed: int  # containers that hold a card and stand in no line


class PodResources:
    """The kubelet's socket. A channel lives for one question: a kept one would wait longer and longer for a kubelet."""

    def __init__(self, socket: Path, resources: Collection[str]) -> None:
        self._socket = socket
        self._resources = frozenset(resources)
        self._trouble: str | None = None

    def holders(self) -> list[Holder] | None:
        """Containers that hold devices of our resources; None while the kubelet does not say."""
        if not self._socket.exists():
            self._unanswered("there is no socket")
            return None
        with grpc.insecure_channel(f"unix://{self._socket}", options=_OPTIONS) as channel:
            ask = channel.unary_unary(
                _LIST,
                request_serializer=ListPodResourcesRequest.SerializeToString,
                response_deserializer=ListPodResourcesResponse.FromString,
            )
            try:
                answer: ListPodResourcesResponse = ask(ListPodResourcesRequest(), timeout=_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                self._unanswered(str(error.code()))
                return None
        self._trouble = None
        return list(self._held(answer))

    def _held(self, answer: ListPodResourcesResponse) -> Iterable[Holder]:
        for pod in answer.pod_resources:
            for container in pod.containers:
                ids = [
                    device_id
                    for devices in container.devices
                    if devices.resource_name in self._resources
                    for device_id in devices.device_ids
                ]
                if ids:
                    yield Holder(pod.namespace, pod.name, container.name, tuple(ids))

    def _unanswered(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("pod_resources_unanswered", socket=str(self._socket), error=trouble)


class WorkloadRules:
    """The mapping file, read again when it has changed. One that cannot be read leaves the last one in force."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.is_wanted = path is not None
        self._version: tuple[int, int] | None = None
        self._rules: tuple[Rule, ...] = ()
        self._trouble: str | None = None

    def current(self) -> Sequence[Rule]:
        """First match wins."""
        if self._path is None:
            return ()
        try:
            status = self._path.stat()
            if (status.st_mtime_ns, status.st_ino) != self._version:
                self._version = (status.st_mtime_ns, status.st_ino)
                self._rules = tuple(Rule(**entry) for entry in json.loads(self._path.read_bytes()))
            self._trouble = None
        except (OSError, ValueError, TypeError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("workload_rules_unreadable", path=str(self._path), error=self._trouble)
        return self._rules


def assign(holders: Iterable[Holder], cards: Collection[Card], rules: Sequence[Rule]) -> Holdings:
    """Whose the cards are.

    A device plugin names devices as it likes: by uuid, bus address or number. All three are understood.
    """
    by_id = {name: card.uuid for card in cards for name in (str(card.index), card.bdf, card.uuid) if name}
    workloads: dict[str, list[Workload]] = {}
    unknown = unnamed = 0
    for holder in holders:
        rule = _rule_of(holder, rules)
        if rule is not None and rule.is_of_nobody:
            continue
        named = (rule.model, rule.variant, rule.tenant) if rule is not None else ()
        unnamed += rule is None
        for device_id in holder.device_ids:
            uuid = by_id.get(device_id)
            if uuid is None:
                unknown += bool(cards)  # while the driver is down nothing can be compared
                continue
            workload = Workload(holder.namespace, holder.pod, holder.container, *named)
            workloads.setdefault(uuid, []).append(workload)
    return Holdings(workloads, unknown, unnamed)


def _rule_of(holder: Holder, rules: Sequence[Rule]) -> Rule | None:
    """The first that fits."""
    fitting = (rule for rule in rules if rule.namespace == holder.namespace and fnmatchcase(holder.pod, rule.pod))
    return next(fitting, None)
