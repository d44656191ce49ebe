"""The catalog asset: reviewed YAML files become tables, whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from sqlalchemy import Engine

from assets.tables import table
from studio.catalog.judged import CatalogInvalid
from studio.catalog.sync import sync_catalog
from studio.db.sessions import unit_of_work


@dataclass(frozen=True, slots=True)
class CatalogFiles:
    """Where the reviewed files lie, and which of the site files says what is deployed here."""

    folder: Path
    site: str


@dg.asset(
    group_name="catalog",
    owners=["team:ops"],
    kinds={"yaml", "postgres"},
    check_specs=[
        dg.AssetCheckSpec(
            "catalog_files_are_valid",
            asset="catalog",
            blocking=True,
            description="No unknown field, missing or overlapping price, or model too large for its cards.",
        )
    ],
)
def catalog(
    worker_database: dg.ResourceParam[Engine], catalog_files: dg.ResourceParam[CatalogFiles]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Models, variants, prices, legal entities and tax rates, as the reviewed files declare them.

    Files with an error change nothing: the findings name file and line.
    """
    try:
        with unit_of_work(worker_database) as session:
            report = sync_catalog(session, catalog_files.folder, catalog_files.site)
    except CatalogInvalid as error:
        findings = {"findings": table(error.findings)}
        yield dg.AssetCheckResult(passed=False, check_name="catalog_files_are_valid", metadata=findings)
        raise dg.Failure(error.message, metadata=findings, allow_retries=False) from error
    yield dg.AssetCheckResult(passed=True, check_name="catalog_files_are_valid")
    yield dg.MaterializeResult(
        metadata={
            "models": report.models,
            "variants": report.variants,
            "prices_added": report.prices_added,
            "prices_ended": report.prices_ended,
            "retired": ", ".join(report.retired) or "none",
            "content_hash": report.content_hash,
        }
    )
