"""The isolation asset: each night two tenants of ours try to reach each other's things; every tenant gets a report."""

from collections.abc import Iterator

import dagster as dg

from assets.tables import table
from serving.isolation.night import Prober, Report, certify


@dg.asset(
    group_name="isolation",
    pool="isolation",  # a run ends all keys of the canaries, so one after the other
    owners=["team:ops"],
    kinds={"postgres", "http"},
    check_specs=[
        dg.AssetCheckSpec(
            "tenants_are_isolated",
            asset="isolation_certificates",
            description="Nothing of one tenant was reached by another. A probe that could not be made is a warning.",
        )
    ],
)
def isolation_certificates(
    isolation_prober: dg.ResourceParam[Prober],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """One signed report per tenant and night: rows, files, batches, fine-tunes, responses, adapters, keys, usage and
    cache were tried through the gateway and the database. Each tenant downloads its own
    (`/v1/isolation/certificates`).

    The probing tenants are ours and are never billed; their keys live for the run.
    """
    report = certify(isolation_prober)
    yield dg.AssetCheckResult(
        passed=report.result == "passed",
        check_name="tenants_are_isolated",
        severity=dg.AssetCheckSeverity.ERROR if report.result == "failed" else dg.AssetCheckSeverity.WARN,
        metadata={
            "result": report.result,
            "failed": table(_with(report, "failed")),
            "skipped": table(_with(report, "skipped")),
        },
    )
    yield dg.MaterializeResult(
        metadata={
            "result": report.result,
            "certificates": len(report.issued),
            "issued": table([{"tenant": slug, "result": result} for slug, result in report.issued.items()]),
            "probes": table(report.night.probes),
        }
    )


def _with(report: Report, result: str) -> list[dict[str, str]]:
    found = [("canaries", probe) for probe in report.night.probes]
    found += [(slug, probe) for slug, own in report.own.items() for probe in own]
    return [
        {"of": of, "subject": probe.subject, "claim": probe.claim, "observed": probe.observed}
        for of, probe in found
        if probe.result == result
    ]
