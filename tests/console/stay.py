"""`python -m tests.console.stay`: the stage of the browser tests for people, until Ctrl-C. Prints where it is."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from tests.console.stage import staged
from tests.local.servers import running_objects
from tests.server import running_server
from tests.serving.conftest import furnished

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what was started is stopped, too
    with tempfile.TemporaryDirectory(prefix="studio-console-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            running_server(folder) as server,
            running_objects(folder / "objects") as objects,
            furnished(server) as house,
            staged(house, objects, folder / "gateway") as stage,
        ):
            for variable, value in stage.environment.items():
                print(f"export {variable}={value}", flush=True)
            signal.pause()
