"""`python -m tests.console.lighthouse`: Lighthouse over the pages of the browser tests' stage; its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from studio.settings import REPOSITORY
from tests.console.stage import staged
from tests.local.servers import running_objects
from tests.server import running_server
from tests.serving.conftest import furnished

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="studio-lighthouse-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            running_server(folder) as server,
            running_objects(folder / "objects") as objects,
            furnished(server) as house,
            staged(house, objects, folder / "gateway") as stage,
        ):
            argv = ["npm", "run", "--silent", "lighthouse", "--prefix", "console"]
            measured = subprocess.run(argv, cwd=REPOSITORY, env=os.environ | stage.environment, check=False)
    sys.exit(measured.returncode)
