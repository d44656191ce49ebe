"""The documents of what is final: made from one snapshot, judged by our own and by the official rules, stored once."""

import dagster as dg
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from assets.invoices import invoice_corrections, invoice_drafts, invoices
from assets.partitions import day_of
from assets.tables import table
from billing import invoice_list
from billing.documents import completeness, invariants, publish, report
from billing.documents.publish import Publication
from billing.documents.schematron import schematron
from studio import clock
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore


@dg.asset(group_name="invoices", owners=["team:finance"], kinds={"pdf", "s3"}, deps=[invoices, invoice_corrections])
def invoice_documents(
    worker_database: dg.ResourceParam[Engine], objects: dg.ResourceParam[ObjectStore]
) -> dg.MaterializeResult[None]:
    """PDF, e-invoices, details and requests for fapiao of all that is final, in the bucket `invoices`.

    The same row gives the same bytes. What breaks a rule is not stored: the checks below name rule and place.
    """

    def put(object_key: str, body: bytes, media_type: str) -> None:
        objects.put_once(Bucket.INVOICES, object_key, body, content_type=media_type)

    with unit_of_work(worker_database) as session:
        missing = publish.unpublished_invoices(session)
        missing_corrections = publish.unpublished_corrections(session)
    done: list[Publication] = []
    with schematron() as judge:
        for invoice_id in missing:
            with unit_of_work(worker_database) as session:
                done.append(publish.publish_invoice(session, put, judge, invoice_id, clock.now()))
        for correction_id in missing_corrections:
            with unit_of_work(worker_database) as session:
                done.append(publish.publish_correction(session, put, judge, correction_id, clock.now()))
    refused = [one for one in done if not one.kinds]
    return dg.MaterializeResult(
        metadata={
            "published": len(done) - len(refused),
            "refused": len(refused),
            "size_bytes": sum(one.size_bytes for one in done),
            "documents": table(done),
        }
    )


@dg.asset_check(asset=invoice_drafts)
def buyers_are_complete(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """The buyer of every draft has what an e-invoice needs. Put it right now: a final invoice is never changed."""
    with unit_of_work(worker_database) as session:
        drafts = [row.invoice_id for row in invoice_list.drafts_of(session, day_of(context))]
        incomplete = completeness.incomplete_drafts(session, drafts)
    return dg.AssetCheckResult(
        passed=not incomplete,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"drafts": len(drafts), "incomplete": table(incomplete)},
    )


@dg.asset_check(asset=invoice_documents)
def documents_keep_our_rules(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """Every line, VAT and total recomputed, and PDF, XML and rows say the same, to the cent, in all that is final."""
    return _check(worker_database, is_own=True)


@dg.asset_check(asset=invoice_documents)
def documents_pass_official_rules(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """EN 16931, Factur-X and XRechnung find no fault in the e-invoices of all that is final."""
    return _check(worker_database, is_own=False)


def _check(worker_database: Engine, *, is_own: bool) -> dg.AssetCheckResult:
    with unit_of_work(worker_database) as session:
        refused = _refused(session)
    faults = [fault for fault in refused if (fault.rule_set == invariants.RULE_SET) == is_own]
    return dg.AssetCheckResult(passed=not faults, metadata={"faults": len(faults), "findings": table(faults)})


def _refused(session: Session) -> list[report.Fault]:
    subjects = [*publish.unpublished_invoices(session), *publish.unpublished_corrections(session)]
    return report.faults(session, subjects)
