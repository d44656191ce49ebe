"""The batch asset: a run is a worker that drains all batches. What it does is `serving/batches`; here it is watched."""

import time
from collections.abc import Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Self
from uuid import UUID

import dagster as dg
import structlog

from assets.tables import table
from serving.batches import lifecycle
from serving.batches.drain import Drain, Equipment
from serving.batches.lifecycle import Progress
from serving.batches.process import run
from studio import ids
from studio.db.sessions import unit_of_work

OBSERVED_EVERY_SECONDS = 5.0  # and at every change of state; each observation is a row in Dagster's database
SHOWN = 50

log = structlog.get_logger()


@dg.asset(group_name="batches", owners=["team:ops"], kinds={"postgres", "s3"})
def batches(
    context: dg.AssetExecutionContext, batch_equipment: dg.ResourceParam[Equipment]
) -> dg.MaterializeResult[None]:
    """Tenants' batches, answered when engines have room, at half price. A run is one worker for all of them.

    It ends when nothing is left to do; the sensor starts another when something is. A worker may be terminated or
    killed at any time: what is committed counts once, the next one does the rest. Only its tenant can stop a batch.
    """
    with _Watch(context) as watch:
        run(Drain(batch_equipment, watch.progress))
    with unit_of_work(batch_equipment.database) as session:
        newest = lifecycle.recent(session, SHOWN)
    return dg.MaterializeResult(
        metadata={
            "batches_seen": len(watch.seen),
            "lines_completed": sum(progress.completed for progress in watch.seen.values()),
            "newest": table([_row(progress) for progress in newest]),
        }
    )


class _Watch:
    """Observes batches as they go, in a thread of its own: Dagster takes 15 s to say that its database is away."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self.seen: dict[UUID, Progress] = {}
        self._context = context
        self._observed: dict[UUID, tuple[str, float]] = {}  # the state of each batch, and when
        self._steps: SimpleQueue[Progress | None] = SimpleQueue()
        self._thread = Thread(target=self._observe_steps)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.put(None)
        self._thread.join()

    def progress(self, progress: Progress) -> None:
        """A batch has come forward."""
        self.seen[progress.batch_id] = progress
        self._steps.put(progress)

    def _observe_steps(self) -> None:
        while (progress := self._steps.get()) is not None:
            state, at = self._observed.get(progress.batch_id, ("", 0.0))
            if progress.state != state or time.monotonic() - at > OBSERVED_EVERY_SECONDS:
                self._observe(progress)
                self._observed[progress.batch_id] = progress.state, time.monotonic()

    def _observe(self, progress: Progress) -> None:
        try:
            self._context.log_event(dg.AssetObservation("batches", metadata=_row(progress)))
        except Exception as error:  # noqa: BLE001  # whatever ails Dagster: who watches misses a step, the work goes on
            log.warning("batch_not_observed", batch=str(progress.batch_id), error=type(error).__name__)


def _row(progress: Progress) -> Mapping[str, str | int]:
    done = progress.completed + progress.failed
    return {
        "batch": ids.to_wire(ids.BATCH, progress.batch_id),
        "tenant": ids.to_wire(ids.TENANT, progress.tenant_id),
        "state": progress.state,
        "model": progress.model or "",
        "completed": progress.completed,
        "failed": progress.failed,
        "total": progress.total,
        "percent": round(100 * done / progress.total) if progress.total else 0,
        "unbilled_tokens": progress.unbilled_tokens,
    }
