"""A worker whose leases are short, so that no test waits for them: `python -m tests.serving.batches.quick_drain`."""

from __future__ import annotations

from datetime import timedelta

from serving.batches.drain import Drain, Pace
from serving.batches.process import equipment_of, run
from studio import logs
from studio.settings import settings

QUICK = Pace(
    lines_per_replica=8,
    lease=timedelta(seconds=3),
    heartbeat=timedelta(seconds=0.2),
    look=timedelta(seconds=0.1),
    idle=timedelta(seconds=1.5),
    asleep=timedelta(seconds=1),
    grace=timedelta(seconds=3),
    put_off=timedelta(seconds=0.5),
)

if __name__ == "__main__":
    logs.configure("console", "INFO")
    run(Drain(equipment_of(settings(), QUICK)))
