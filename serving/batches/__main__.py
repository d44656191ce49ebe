"""A worker without Dagster: `python -m serving.batches`. It drains all batches and ends when nothing is left to do."""

from __future__ import annotations

from serving.batches.drain import Drain
from serving.batches.process import equipment_of, run
from studio import logs
from studio.settings import SettingMissing, settings


def main() -> None:
    """The process."""
    config = settings()
    logs.configure(config.log_format, config.log_level, whole_process=True)
    try:
        run(Drain(equipment_of(config)))
    except SettingMissing as error:
        raise SystemExit(error.message) from error


if __name__ == "__main__":
    main()
