"""The asset of the monthly report: whether what was promised was kept."""

from collections.abc import Iterator

import dagster as dg
from sqlalchemy import Engine

from assets.catalog import CatalogFiles
from assets.partitions import BERLIN_MONTHS, day_of
from assets.tables import table
from assets.usage import USAGE_EVENTS, rated_usage
from serving.objectives import months, report
from studio import clock
from studio.catalog.reading import read_catalog
from studio.db.sessions import unit_of_work


class ReportConfig(dg.Config):
    """Only for a month that is final."""

    anew_because: str = ""  # why it is computed anew; empty: it stays as it is


@dg.asset(
    group_name="objectives",
    owners=["team:ops"],
    kinds={"postgres"},
    partitions_def=BERLIN_MONTHS,
    deps=[USAGE_EVENTS, rated_usage],
    check_specs=[
        dg.AssetCheckSpec(
            "objectives_are_met",
            asset="slo_report",
            description="Every figure that has a target meets it. A figure that was not measured is no failure.",
        )
    ],
)
def slo_report(
    context: dg.AssetExecutionContext,
    config: ReportConfig,
    worker_database: dg.ResourceParam[Engine],
    catalog_files: dg.ResourceParam[CatalogFiles],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Availability in working hours, warm openings, first tokens and exact usage of a Berlin month, from rows alone.

    And what was credited to whom for missed targets of the fast tier, as it was rated by then.

    A month that runs is reported up to now. One that is final stays as it was told: running it again shows under
    `differs_now` what would be said today. `GET /admin/v1/slo/{month}` shows the same figures.
    """
    month = day_of(context)
    targets = read_catalog(catalog_files.folder, catalog_files.site).site.first_token_ms_p50
    with unit_of_work(worker_database) as session:
        computed = report.compute(session, month, clock.now(), targets)
        figures = [] if config.anew_because else months.final(session, month)
        differing = [figure for figure in computed if figure not in figures] if figures else []
        if not figures:
            figures = computed
            months.store(session, month, figures)
        credited = report.credited(session, month)
    missed = [figure for figure in figures if figure.is_met is False]
    yield dg.AssetCheckResult(
        passed=not missed,
        check_name="objectives_are_met",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"missed": table(missed)},
    )
    yield dg.MaterializeResult(
        metadata={
            "figures": table(figures),
            "differs_now": table(differing),
            "anew_because": config.anew_because,
            "credited": table(credited),
            "page": dg.MetadataValue.md(report.page(month, figures, credited)),
            **{f"{one.objective}_{one.subject}_plot": float(one.value) for one in figures if one.value is not None},
        }
    )
