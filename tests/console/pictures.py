"""`python -m tests.console.pictures`: takes the console's pictures in docs/images anew, on the browser tests' stage."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from studio.settings import REPOSITORY
from tests.console.stage import play, staged
from tests.local.servers import running_objects
from tests.server import running_server
from tests.serving.conftest import furnished

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="studio-pictures-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            running_server(folder) as server,
            running_objects(folder / "objects") as objects,
            furnished(server) as house,
            staged(house, objects, folder / "gateway") as stage,
        ):
            pictures = {"CONSOLE_PICTURES": str(REPOSITORY / "docs" / "images"), "CONSOLE_RESULTS": name}
            played = play(stage, "--project=pictures", environment=os.environ | pictures)
    print(played.stdout, played.stderr)
    sys.exit(played.returncode)
