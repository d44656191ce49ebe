"""Served adapters: the two files that make one, and the hash that names them. Training writes, nodes verify."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")  # and no other: nothing that runs code


def adapter_sha256(bodies: Iterable[bytes]) -> str:
    """Over the files' contents, in the order of ADAPTER_FILES."""
    lines = "".join(
        f"{hashlib.sha256(body).hexdigest()} {name}\n" for name, body in zip(ADAPTER_FILES, bodies, strict=True)
    )
    return hashlib.sha256(lines.encode()).hexdigest()
