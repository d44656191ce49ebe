"""What NetworkPolicies let through, as Kubernetes defines it: policies and pods in, yes or no out. Nothing is sent.

A connection needs both sides: the caller's policies let it out and the callee's let it in. Policies add up; a side that
no policy selects is open. Whether an `ipBlock` reaches a pod differs from one network plugin to another, so `passes` is
told which is assumed: what must work may not rest on it, and what must be refused is refused even so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from tests.k8s.rendering import Document

_POD_ADDRESS = "10.244.1.7"


@dataclass(frozen=True)
class Place:
    """A pod, or with no namespace something outside the cluster."""

    namespace: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)  # by name
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = _POD_ADDRESS


WORLD = Place(None, address="93.184.216.34")


def pods_of(documents: Iterable[Document], namespace_labels: Mapping[str, Mapping[str, str]]) -> list[Place]:
    """The pods that workloads make."""
    found = []
    for document in documents:
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is None:
            continue
        ports = (port for one in template["spec"]["containers"] for port in one.get("ports", ()))
        names = {port["name"]: port["containerPort"] for port in ports}
        namespace = document["metadata"]["namespace"]
        labels = named(namespace) | dict(namespace_labels.get(namespace, {}))
        found.append(Place(namespace, template["metadata"]["labels"], names, labels))
    return found


def named(namespace: str) -> dict[str, str]:
    """The label that every namespace has."""
    return {"kubernetes.io/metadata.name": namespace}


def passes(
    policies: Iterable[Document], caller: Place, callee: Place, port: int, protocol: str, *, blocks_reach_pods: bool
) -> bool:
    """Whether the caller may open a connection to that port of the callee."""

    def lets(side: str, of: Place, other: Place) -> bool:
        peers, direction = ("to", "egress") if side == "Egress" else ("from", "ingress")
        holding = [
            one["spec"]
            for one in policies
            if of.namespace is not None
            and one["metadata"]["namespace"] == of.namespace
            and side in one["spec"]["policyTypes"]
            and _selects(one["spec"]["podSelector"], of.labels)
        ]
        rules = [rule for spec in holding for rule in spec.get(direction) or ()]
        return not holding or any(
            _ports(rule, callee, port, protocol)
            and _peers(rule.get(peers), other, of.namespace, blocks_reach_pods=blocks_reach_pods)
            for rule in rules
        )

    return lets("Egress", caller, callee) and lets("Ingress", callee, caller)


def _ports(rule: Document, callee: Place, port: int, protocol: str) -> bool:
    wanted = rule.get("ports")
    return not wanted or any(
        one.get("protocol", "TCP") == protocol
        and port == (callee.ports.get(one["port"]) if isinstance(one["port"], str) else one["port"])
        for one in wanted
    )


def _peers(peers: list[Document] | None, other: Place, own: str | None, *, blocks_reach_pods: bool) -> bool:
    if not peers:  # a rule that names none is for everybody
        return True
    return any(_is_peer(peer, other, own, blocks_reach_pods=blocks_reach_pods) for peer in peers)


def _is_peer(peer: Document, other: Place, own: str | None, *, blocks_reach_pods: bool) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        inside = ip_address(other.address) in ip_network(block["cidr"])
        excepted = any(ip_address(other.address) in ip_network(one) for one in block.get("except", ()))
        return inside and not excepted and (other.namespace is None or blocks_reach_pods)
    if other.namespace is None:
        return False
    selector = peer.get("namespaceSelector")
    there = other.namespace == own if selector is None else _selects(selector, other.namespace_labels)
    return there and _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Document, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels. An empty one takes all."""
    judged = {
        "In": lambda one: labels.get(one["key"]) in one["values"],
        "NotIn": lambda one: labels.get(one["key"]) not in one["values"],
        "Exists": lambda one: one["key"] in labels,
        "DoesNotExist": lambda one: one["key"] not in labels,
    }
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        judged[one["operator"]](one) for one in selector.get("matchExpressions", ())
    )
