"""KEDA's kind on a test's API server, with no schema: for objects that are looked for, not judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.k8s.control_plane import ControlPlane
from tests.k8s.rendering import Document
from tests.local.eventually import eventually

_ANYTHING = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
_KIND = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
        "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": _ANYTHING}],
    },
}


@contextmanager
def scaled_object(plane: ControlPlane, deployment: str, namespace: str) -> Iterator[None]:
    """One called `hours` that names a Deployment, for the length of the block; the server knows the kind only then."""
    plane.succeed("kubectl", "create", "--filename", "-", text=json.dumps(_KIND))
    plane.succeed("kubectl", "wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", "--timeout=60s")
    wanted: Document = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "hours", "namespace": namespace},
        "spec": {"scaleTargetRef": {"name": deployment}},  # KEDA's own default is a Deployment
    }
    create = ("kubectl", "create", "--filename", "-")
    eventually(
        lambda: plane.run(*create, text=json.dumps(wanted)).returncode == 0, "the server takes an object of KEDA's"
    )
    yield
    plane.succeed("kubectl", "delete", "crd", "scaledobjects.keda.sh")
