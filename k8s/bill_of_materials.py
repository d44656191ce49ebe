"""What an image is installed from, as CycloneDX: `python -m k8s.bill_of_materials IMAGE --image REF --commit SHA`.

It reads the locks that the Containerfile names, so it lists what pip was allowed to install, with the hashes that pip
checked. What the base image holds is the base's own bill. Standard library alone: a release needs no environment.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parent.parent
_LOCK = re.compile(r"requirements/[a-z-]+\.lock")
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[a-z0-9,]+\])?==(?P<version>[^\s\\;]+)")
_HASH = re.compile(r"--hash=sha256:(?P<hex>[0-9a-f]{64})")


class NothingLocked(ValueError):
    """A Containerfile that installs from no lock, or a lock without pins."""


def bill(image: str, reference: str, commit: str) -> dict[str, Any]:
    """CycloneDX 1.5, sorted, so that the same commit gives the same bytes. NothingLocked."""
    containerfile = (_REPOSITORY / "k8s" / "images" / f"{image}.Containerfile").read_text()
    locks = sorted(set(_LOCK.findall(containerfile)))
    components = sorted(
        (one for lock in locks for one in _components(lock, (_REPOSITORY / lock).read_text())),
        key=lambda one: (one["name"], one["version"]),
    )
    if not components:
        raise NothingLocked(f"{image} is installed from no lock")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": f"xpulink-ai-studio-{image}",
                "version": reference.rpartition("@")[2],
                "bom-ref": reference,
                "properties": [{"name": "studio:commit", "value": commit}],
            }
        },
        "components": components,
    }


def _components(lock: str, text: str) -> Iterator[dict[str, Any]]:
    """Each pin, with the hashes of all files that pip would take for it."""
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        if (pin := _PIN.match(block)) is None:
            continue
        name, version = pin["name"].lower(), pin["version"]
        yield {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "bom-ref": f"{lock}#{name}",
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"pkg:pypi/{name}@{version}",
                    "hashes": [{"alg": "SHA-256", "content": found} for found in sorted(_HASH.findall(block))],
                }
            ],
        }


def main() -> int:
    """The process: JSON on standard output."""
    parser = argparse.ArgumentParser(prog="python -m k8s.bill_of_materials", description=__doc__)
    parser.add_argument("name", help="image, as its Containerfile is called")
    parser.add_argument("--image", required=True, help="repository@sha256:...")
    parser.add_argument("--commit", required=True)
    given = parser.parse_args()
    json.dump(bill(given.name, given.image, given.commit), sys.stdout, indent=1, sort_keys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
