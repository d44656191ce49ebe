"""The published schemas of custom kinds, asked strictly (`crds/judge.mjs`). They come by `make` (build/crds)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from studio.settings import REPOSITORY
from tests.k8s.rendering import Document

_MODULES = REPOSITORY / "build" / "crds" / "node_modules"


def findings(documents: list[Document]) -> list[list[str]]:
    """What is wrong with each object: a field that is unknown, missing or of another type."""
    node = shutil.which("node")
    assert node, "Node.js 20 is needed, as for the OpenID provider of the tests"
    assert _MODULES.is_dir(), "run `make build/crds/.ready`"
    said = subprocess.run(
        [node, str(Path(__file__).parent / "crds" / "judge.mjs"), str(_MODULES)],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    found: list[list[str]] = json.loads(said.stdout)
    return found
