"""Brings an engine's weights to this node before the engine starts: `python -m local.fetch_weights WEIGHTS`.

The init container of the engine chart. The engine starts on `--link`, which names the verified copy, so neither the
chart nor a person has to know the digest. Exit code 1 with one sentence on stderr when there is no right copy.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from studio import logs
from studio.errors import StudioError
from studio.objects import ObjectStore
from studio.settings import settings
from studio.weights import ensure_local

log = structlog.get_logger()


def main() -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m local.fetch_weights", description=__doc__)
    parser.add_argument("weights", help="weights of the catalog, by id")
    parser.add_argument("--link", type=Path, required=True, help="symbolic link to make to the copy")
    parser.add_argument("--digest", help="refuse other content than this")
    parser.add_argument(
        "--make-folder", type=Path, help="folder to make beside the copies, for what the engine compiles"
    )
    wanted = parser.parse_args()
    # A pod's first process gets no signal that it has not asked for: closing would wait for its whole grace.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    config = settings()
    logs.configure(config.log_format, config.log_level)
    try:
        store = ObjectStore.from_settings(config)
        copy = ensure_local(
            store,
            wanted.weights,
            config.weights_dir,
            progress=lambda path: log.info("weights_file", weights=wanted.weights, file=path),
            digest=wanted.digest,
        )
    except (StudioError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    if wanted.make_folder is not None:
        (config.weights_dir / wanted.make_folder).mkdir(parents=True, exist_ok=True)
    wanted.link.unlink(missing_ok=True)
    wanted.link.symlink_to(copy.resolve())
    log.info("weights_ready", weights=wanted.weights, copy=str(copy))
    return 0


if __name__ == "__main__":
    sys.exit(main())
