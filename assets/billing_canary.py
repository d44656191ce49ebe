"""The billing canary: each hour, what a bill would say of known requests is compared with what the requests counted."""

from collections.abc import Iterator

import dagster as dg

from assets.tables import table
from serving.billing_canary.canary import Flight, fly
from serving.isolation.night import Prober


@dg.asset(
    group_name="usage",
    owners=["team:finance"],
    kinds={"postgres", "http"},
    pool="billing_canary",  # a run ends all keys of the canary, so one after the other
    check_specs=[
        dg.AssetCheckSpec(
            "bill_equals_own_count",
            asset="billing_canary",
            description="The rating code bills the canary's requests at what they counted themselves. Not green when"
            " nothing was warm to be asked.",
        )
    ],
)
def billing_canary(
    isolation_prober: dg.ResourceParam[Prober],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Known requests through the gateway to the cheapest running model, rated by the code of real invoices in a dry run
    over their events. The tenant is ours: it is never sealed, so nothing of it ever reaches an invoice."""
    flight = fly(isolation_prober.worker, isolation_prober.gateway_url)
    yield dg.AssetCheckResult(
        passed=flight.agrees,
        check_name="bill_equals_own_count",
        severity=dg.AssetCheckSeverity.WARN if flight.skipped else dg.AssetCheckSeverity.ERROR,
        metadata=_metadata(flight),
    )
    yield dg.MaterializeResult(metadata=_metadata(flight))


def _metadata(flight: Flight) -> dict[str, dg.MetadataValue]:
    if flight.skipped:
        return {"result": dg.MetadataValue.text(flight.skipped)}
    return {
        "result": dg.MetadataValue.text("equal" if flight.agrees else "different"),
        "model": dg.MetadataValue.text(flight.model),
        "answers": dg.MetadataValue.int(flight.answers),
        "events": dg.MetadataValue.int(flight.events),
        "unpriced_tokens": dg.MetadataValue.int(flight.unpriced),
        "billed": dg.MetadataValue.text(f"{flight.billed:f}"),
        "own_count": dg.MetadataValue.text(str(flight.own)),
        "lines": table(flight.lines),
    }
