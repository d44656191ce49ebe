"""The API server of the cluster: objects as dicts, read and written. Errors are ours, in one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any, Self

import httpx2
from lightkube import ApiError, Client, KubeConfig
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.types import CascadeType, PatchType

from studio.cluster.tenant_objects import Manifest
from studio.errors import Conflict, PermissionDenied, StudioError

FIELD_MANAGER = "studio"
SILENCE_SECONDS = 5.0  # after which a request counts as not answered; a tick asks a handful of them

# Every kind that we touch, and no other: a role that knows them is the least that is needed (docs/kubernetes.md).
_KINDS: dict[str, Any] = {
    "Namespace": create_global_resource("", "v1", "Namespace", "namespaces"),
    "ResourceQuota": create_namespaced_resource("", "v1", "ResourceQuota", "resourcequotas"),
    "LimitRange": create_namespaced_resource("", "v1", "LimitRange", "limitranges"),
    "ConfigMap": create_namespaced_resource("", "v1", "ConfigMap", "configmaps"),
    "ServiceAccount": create_namespaced_resource("", "v1", "ServiceAccount", "serviceaccounts"),
    "NetworkPolicy": create_namespaced_resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    "Deployment": create_namespaced_resource("apps", "v1", "Deployment", "deployments"),
    "Job": create_namespaced_resource("batch", "v1", "Job", "jobs"),
    "Pod": create_namespaced_resource("", "v1", "Pod", "pods"),
    "HorizontalPodAutoscaler": create_namespaced_resource(
        "autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers"
    ),
    "ScaledObject": create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
}


class ClusterUnknown(StudioError):
    """There is neither a service account nor a kubeconfig."""


class ClusterAway(StudioError):
    """The API server cannot be asked. What runs in the cluster goes on; ask again later."""


class ClusterRefused(PermissionDenied):
    """The API server does not let us."""


class ClusterConflict(Conflict):
    """Somebody changed the object meanwhile, or it is on its way out. Ask again."""


class Cluster:
    """One, as whoever this process is there."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    def from_environment(cls) -> Self:
        """By the pod's service account, `KUBECONFIG`, or `~/.kube/config`, in this order. ClusterUnknown."""
        try:
            config = KubeConfig.from_env().get()
        except (ConfigError, OSError) as error:
            raise ClusterUnknown(f"There is no cluster to talk to: {error}. Set KUBECONFIG.") from error
        return cls(Client(config=config, field_manager=FIELD_MANAGER, timeout=httpx2.Timeout(SILENCE_SECONDS)))

    def close(self) -> None:
        """Its connections, at the end."""
        self._client.close()

    def read(self, kind: str, name: str, namespace: str | None) -> Manifest | None:
        """An object as it is stored; None when it is not there."""
        with _in_our_words(f"read {kind}/{name}"):
            try:
                return dict(self._client.get(_KINDS[kind], name, namespace=namespace))
            except ApiError as error:
                if error.status.code == 404:
                    return None
                raise

    def list(self, kind: str, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
        """All objects of a kind, in one namespace or, of a kind that has none, in all. None of a kind that the cluster
        does not know."""
        with _in_our_words(f"list {kind}"):
            selector = None if labels is None else dict(_terms(labels))
            try:
                return [dict(one) for one in self._client.list(_KINDS[kind], namespace=namespace, labels=selector)]
            except httpx2.HTTPStatusError as error:  # ApiError is one; a group that is not there answers in plain text
                if error.response.status_code == 404:
                    return []
                raise

    def write(self, manifest: Manifest, found: Manifest | None) -> None:
        """Make the object be what `manifest` says. With what was `found` its `spec` is replaced as a whole, so that
        nothing of another's stays in it; ClusterConflict when it was changed since."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        resource = _KINDS[kind]
        with _in_our_words(f"write {kind}/{metadata['name']}"):
            if "spec" in manifest and found is not None:
                theirs = found["metadata"]
                merged = theirs | {"labels": theirs.get("labels", {}) | metadata["labels"]}
                self._client.replace(resource(manifest | {"metadata": merged}))
            else:
                self._client.apply(resource(manifest), force=True)

    def create(self, manifest: Manifest) -> None:
        """Make an object that is not there. ClusterConflict when one of its name is."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        with _in_our_words(f"create {kind}/{name}"):
            self._client.create(_KINDS[kind](manifest))

    def scale(self, name: str, namespace: str, replicas: int, seen: str) -> None:
        """Give a Deployment a number of pods, by its scale alone. ClusterConflict when it is not any more what it was
        when its `resourceVersion` was `seen`."""
        with _in_our_words(f"scale Deployment/{name}"):
            resource = _KINDS["Deployment"].Scale
            metadata = ObjectMeta(name=name, namespace=namespace, resourceVersion=seen)
            self._client.replace(resource(metadata=metadata, spec=ScaleSpec(replicas=replicas)))

    def annotate(self, kind: str, found: Manifest, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of an object; None removes one. ClusterConflict when it is not any more as it was `found`."""
        metadata = found["metadata"]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": dict(annotations)}}
        with _in_our_words(f"annotate {kind}/{metadata['name']}"):
            self._client.patch(
                _KINDS[kind], metadata["name"], patch, namespace=metadata["namespace"], patch_type=PatchType.MERGE
            )

    def delete(self, kind: str, name: str, namespace: str | None) -> None:
        """Ask for its end, and for that of what it has made. What is not there already is no error."""
        with _in_our_words(f"delete {kind}/{name}"):
            try:
                self._client.delete(_KINDS[kind], name, namespace=namespace, cascade=CascadeType.BACKGROUND)
            except ApiError as error:
                if error.status.code != 404:
                    raise


def _terms(selector: str) -> Iterator[tuple[str, Any]]:
    for term in selector.split(","):
        name, equals, value = term.partition("=")
        yield name, value if equals else None


@contextmanager
def _in_our_words(what: str) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        status = error.status
        said = f"The cluster could not {what}: {status.message}"
        if status.code in (401, 403):
            raise ClusterRefused(said) from error
        if status.code == 409:
            raise ClusterConflict(said) from error
        if status.code is not None and status.code >= 500:
            raise ClusterAway(said) from error
        raise StudioError(said) from error
    except JSONDecodeError as error:
        raise ClusterAway(f"The cluster could not {what}: what answers there is no API server.") from error
    except httpx2.HTTPError as error:
        raise ClusterAway(f"The cluster could not be asked to {what}: {error or type(error).__name__}.") from error
