"""The adapter that a trainer left in the object store: two files, described by a manifest that was written last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from studio.adapters import ADAPTER_FILES, adapter_sha256
from training.progress import Prefix


class AdapterMissing(Exception):
    """The trainer says it is done and its adapter is not there, or other bytes are: our own error."""


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """Small: megabytes even for the largest base."""

    config: bytes
    weights: bytes
    trained_tokens: int

    @property
    def sha256(self) -> str:
        """Names the content of both."""
        return adapter_sha256((self.config, self.weights))

    @classmethod
    def read(cls, prefix: Prefix) -> AdapterFiles:
        """What the manifest promises. AdapterMissing otherwise."""
        manifest = prefix.get("adapter/manifest.json")
        bodies = tuple(prefix.get(f"adapter/{name}") for name in ADAPTER_FILES)
        config, weights = bodies
        if manifest is None or config is None or weights is None:
            raise AdapterMissing(f"{prefix.prefix}adapter/ is not complete")
        document = json.loads(manifest)
        promised = [file["sha256"] for file in document["files"]]
        if promised != [hashlib.sha256(body).hexdigest() for body in (config, weights)]:
            raise AdapterMissing(f"{prefix.prefix}adapter/ has other bytes than its manifest says")
        return cls(config, weights, document["trained_tokens"])
