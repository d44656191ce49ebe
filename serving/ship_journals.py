"""Ships the journals of gateways that never start again: `python -m serving.ship_journals`.

A Job of the gateway chart runs it on the volume of a gateway that a smaller number has orphaned. It takes no requests.
Exit code 0 when nothing of usage is left there, so the volume may go; 1 when a living gateway holds some, a damaged
journal waits for a person, or the database is away: then the Job is tried again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import UUID

import psycopg
import structlog

from serving.journal_segments import segments
from serving.shipper import DAMAGED, SESSION, adopt_the_dead
from studio import logs
from studio.settings import settings

log = structlog.get_logger()


def ship(database_url: str, journal_dir: Path) -> int:
    """How many journals are left. psycopg.Error while the database is away."""
    url = database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True, connect_timeout=5, options=SESSION) as connection:
        adopt_the_dead(connection, journal_dir)
    return sum(_is_journal(directory) for directory in journal_dir.iterdir())


def _is_journal(directory: Path) -> bool:
    try:
        UUID(directory.name.removesuffix(DAMAGED))
    except ValueError:
        return False
    return bool(segments(directory))


def main() -> int:
    """The process."""
    config = settings()
    logs.configure(config.log_format, config.log_level)
    try:
        left = ship(config.database_url("shipper"), config.journal_dir)
    except psycopg.Error as error:
        log.warning("journals_wait", error=str(error).strip())
        return 1
    log.info("journals_shipped", left=left)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
