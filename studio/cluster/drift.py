"""How an object in the cluster differs from what it should be. Pure.

In `spec` and the like everything counts: a key too many in a quota, or a rule too many in a network policy, undoes what
the others say. Of `metadata` only what we set counts, since others may add labels of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from studio.cluster.tenant_objects import Manifest


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as it should be. Both sides in words; empty: not there."""

    namespace: str
    object: str  # `ResourceQuota/tenant`
    field: str  # `spec.hard.pods`; empty for the whole object
    wanted: str
    found: str


def differences(wanted: Manifest, found: Manifest | None) -> list[Difference]:
    """All of one object; none when it is as it should be."""
    metadata = wanted["metadata"]
    namespace, name = metadata.get("namespace", metadata["name"]), f"{wanted['kind']}/{metadata['name']}"
    if found is None:
        return [Difference(namespace, name, "", "there", "")]
    fields = [
        *_between({"labels": metadata["labels"]}, found.get("metadata", {}), "metadata", only_ours=True),
        *_between(
            {"annotations": metadata.get("annotations", {})}, found.get("metadata", {}), "metadata", only_ours=True
        ),
    ]
    for part in wanted.keys() - {"apiVersion", "kind", "metadata"}:
        fields += _between({part: wanted[part]}, {part: found.get(part)}, "", only_ours=False)
    return [Difference(namespace, name, field, ours, theirs) for field, ours, theirs in sorted(fields)]


def _between(wanted: Any, found: Any, at: str, *, only_ours: bool) -> Iterator[tuple[str, str, str]]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        names = wanted.keys() if only_ours or not at else wanted.keys() | found.keys()
        for name in names:
            below = f"{at}.{name}" if at else name
            yield from _between(wanted.get(name), found.get(name), below, only_ours=only_ours)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (ours, theirs) in enumerate(zip(wanted, found, strict=True)):
            yield from _between(ours, theirs, f"{at}[{index}]", only_ours=only_ours)
    elif wanted != found and (wanted or found):
        yield at, _shown(wanted), _shown(found)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
