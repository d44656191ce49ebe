"""The volumes and variables of a pod, from the objects that it names. What is missing keeps its container waiting."""

from __future__ import annotations

import base64
import os
import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.k8s.control_plane import ControlPlane


class NotThere(Exception):
    """The pod names an object, or asks for a kind of volume, that is not there: CreateContainerConfigError."""


class Objects:
    """What pods of one namespace may name."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self._namespace = plane, namespace

    def data(self, kind: str, name: str) -> dict[str, bytes]:
        """The keys of a Secret or a ConfigMap."""
        found = self._read(kind, name)
        if kind == "secrets":
            return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
        return {key: value.encode() for key, value in found.get("data", {}).items()}

    def claimed(self, name: str) -> Path:
        """The folder of the volume that a claim is bound to."""
        claim = self._read("persistentvolumeclaims", name)
        volume = self._plane.ask("GET", f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        return Path(volume["spec"]["local"]["path"])

    def _read(self, kind: str, name: str) -> Any:
        try:
            return self._plane.ask("GET", f"/api/v1/namespaces/{self._namespace}/{kind}/{name}")
        except urllib.error.HTTPError as error:
            raise NotThere(f'{kind.removesuffix("s")} "{name}" not found') from error


def variables(container: Mapping[str, Any], pod: Mapping[str, Any], objects: Objects) -> dict[str, str]:
    """Its environment."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for kind, reference in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
            if reference in source:
                found |= {key: text.decode() for key, text in objects.data(kind, source[reference]["name"]).items()}
    for one in container.get("env") or []:
        found[one["name"]] = one.get("value", "") if "valueFrom" not in one else _value(one["valueFrom"], pod, objects)
    return found


def _value(source: Mapping[str, Any], pod: Mapping[str, Any], objects: Objects) -> str:
    if "fieldRef" in source:
        value: Any = pod
        for part in source["fieldRef"]["fieldPath"].split("."):
            value = value[part]
        return str(value)
    for kind, reference in (("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef")):
        if reference in source:
            wanted = source[reference]
            data = objects.data(kind, wanted["name"])
            if wanted["key"] not in data:
                raise NotThere(f"couldn't find key {wanted['key']} in {kind} {wanted['name']}")
            return data[wanted["key"]].decode()
    raise NotThere(f"the stand-in knows no variable from {', '.join(source)}")


def folders(pod: Mapping[str, Any], objects: Objects, folder: Path) -> dict[str, Path]:
    """A folder for each volume, by its name; the pod's group may write where a kubelet lets it."""
    group = pod["spec"].get("securityContext", {}).get("fsGroup")
    found = {}
    for volume in pod["spec"].get("volumes") or []:
        path = folder / volume["name"]
        if "persistentVolumeClaim" in volume:
            path = objects.claimed(volume["persistentVolumeClaim"]["claimName"])
        elif not path.exists():
            files = list(_files(volume, objects))
            path.mkdir(parents=True)
            for name, content in files:
                (path / name).write_bytes(content)
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(0o2775)
        found[volume["name"]] = path
    return found


def _files(volume: Mapping[str, Any], objects: Objects) -> Iterator[tuple[str, bytes]]:
    sources = volume["projected"]["sources"] if "projected" in volume else [volume]
    for source in sources:
        if "emptyDir" in source:
            continue
        if "secret" in source:
            name = source["secret"].get("secretName") or source["secret"]["name"]
            yield from objects.data("secrets", name).items()
        elif "configMap" in source:
            yield from objects.data("configmaps", source["configMap"]["name"]).items()
        else:
            raise NotThere(f"the stand-in knows no volume like {volume['name']}")
