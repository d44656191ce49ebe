"""The fine-tune asset: one run per job, followed while it trains. What happens in a run is `training/run.py`."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from studio import ids
from studio.db.sessions import unit_of_work
from training import jobs
from training.run import Workshop, run_fine_tune

_CHECK = "adapter_is_valid"


class FineTuneConfig(dg.Config):
    """Which job."""

    job_id: str


@dg.asset(
    group_name="fine_tunes",
    owners=["team:ops"],
    kinds={"pytorch", "s3"},
    check_specs=[
        dg.AssetCheckSpec(
            _CHECK,
            asset="fine_tunes",
            description="A trained adapter fits its base in name, modules, shapes and rank, with finite weights.",
        )
    ],
)
def fine_tunes(
    context: dg.AssetExecutionContext, config: FineTuneConfig, workshop: dg.ResourceParam[Workshop]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Adapters that tenants train on their own examples; each step is observed here, so the loss can be watched.

    A tenant's mistake (a broken line, an adapter that diverged) ends the job with a reason and this run in good order.
    A run that dies is followed by another, which goes on from the last checkpoint, as long as there is progress.
    """
    job_id = ids.from_wire(ids.FINE_TUNING_JOB, config.job_id)

    def observe(metrics: Mapping[str, Any]) -> None:
        finite = {name: float(value) for name, value in metrics.items() if value is not None}
        measured = {name: dg.MetadataValue.float(value) for name, value in finite.items()}
        named = {"job": dg.MetadataValue.text(config.job_id)}
        context.log_event(dg.AssetObservation("fine_tunes", metadata={**named, **measured}))

    def hear(trouble: str) -> None:
        if trouble:
            context.log.warning("The trainer does not work: %s", trouble)
        else:
            context.log.info("The trainer works again.")

    outcome = run_fine_tune(workshop, job_id, observe, hear)
    with unit_of_work(workshop.database) as session:
        job = jobs.fine_tune(session, job_id)
    reason = outcome.code or "none"  # never the message: it is the tenant's
    # Dagster wants a word on every check. Where nothing was trained there was nothing to judge, and it says so.
    was_judged = outcome.adapter is not None or outcome.is_adapter_refused
    yield dg.AssetCheckResult(
        check_name=_CHECK,
        passed=not outcome.is_adapter_refused,
        metadata={"job": config.job_id, "adapter": "judged" if was_judged else "none", "reason": reason},
    )
    yield dg.MaterializeResult(
        metadata={
            "job": config.job_id,
            "ending": outcome.ending,
            "reason": reason,
            "tenant": job.tenant_slug,
            "base": job.variant_id,
            "model": outcome.adapter.name if outcome.adapter else "none",
        }
    )
