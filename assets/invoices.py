"""The invoice assets: statements and drafts by month, then invoices and their documents, which nothing changes.

Finalising is a person's act: the approval is a row given through the gateway, and the asset refuses without it.
"""

import dagster as dg
from pydantic import Field
from sqlalchemy import Engine

from assets.borders import account_statements_schema, border_check, invoice_drafts_schema
from assets.partitions import BERLIN_MONTHS, day_of
from assets.tables import table
from assets.usage import rated_usage
from billing import (
    approval,
    correction_finalize,
    draft,
    finalize,
    invoice_list,
    invoice_requests,
    reconcile,
    statement,
    vat_confirmation,
)
from billing.correction_finalize import CorrectionOutdated
from billing.vat_confirmation import Register
from billing.vat_ids import RegistryUnavailable
from studio import clock, ids
from studio.db.sessions import unit_of_work
from studio.errors import StudioError


@dg.asset(
    group_name="invoices",
    owners=["team:finance"],
    kinds={"postgres"},
    partitions_def=BERLIN_MONTHS,
    deps=[rated_usage],
)
def account_statements(
    context: dg.AssetExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.MaterializeResult[None]:
    """Each tenant's month so far: exact amount, what final invoices hold of it, days that are not reconciled yet."""
    with unit_of_work(worker_database) as session:
        statements = statement.refresh(session, day_of(context), clock.now())
    return dg.MaterializeResult(
        metadata={
            "tenants": len(statements),
            "open_windows": sum(row.open_windows for row in statements),
            "statements": table(statements),
        }
    )


@dg.asset(
    group_name="invoices",
    owners=["team:finance"],
    kinds={"postgres"},
    partitions_def=BERLIN_MONTHS,
    deps=[account_statements],
)
def invoice_drafts(
    context: dg.AssetExecutionContext,
    worker_database: dg.ResourceParam[Engine],
    vat_register: dg.ResourceParam[Register],
) -> dg.MaterializeResult[None]:
    """One draft for each open request of the month, over reconciled usage that no invoice holds yet.

    A draft has no number and binds nobody. It becomes an invoice when a person approves exactly its total.
    """
    month = day_of(context)
    with unit_of_work(worker_database) as session:
        requests = [request for request in invoice_requests.unanswered(session) if request.month == month]
    refused, unconfirmed = [], []
    for request in requests:
        try:
            with unit_of_work(worker_database) as session:
                vat_confirmation.confirm_buyer(session, vat_register, request.tenant_id, month, clock.now())
        except RegistryUnavailable as error:  # the draft does not wait for it: its form was checked
            unconfirmed.append({"tenant": str(request.tenant_id), "why": error.message})
        try:
            with unit_of_work(worker_database) as session:
                invoice_id = draft.draft(session, request.id, clock.now())
                if invoice_id is not None:
                    reconcile.reconcile_invoice(session, invoice_id, clock.now())
        except StudioError as error:  # one tenant's trouble is not the others'; the check below shows it
            refused.append({"request": str(request.id), "tenant": str(request.tenant_id), "why": error.message})
    with unit_of_work(worker_database) as session:
        drafts = invoice_list.drafts_of(session, month)
    return dg.MaterializeResult(
        metadata={
            "requests": len(requests),
            "refused": len(refused),
            "drafts": len(drafts),
            "refused_requests": table(refused),
            "unconfirmed_vat_ids": table(unconfirmed),
            "open_drafts": table(drafts),
        }
    )


@dg.asset_check(asset=invoice_drafts)
def every_request_is_answered(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """No request for an invoice of the month is left without a draft or a reason."""
    month = day_of(context)
    with unit_of_work(worker_database) as session:
        waiting = [request for request in invoice_requests.unanswered(session) if request.month == month]
    return dg.AssetCheckResult(passed=not waiting, metadata={"unanswered": table(waiting)})


@dg.asset_check(asset=invoice_drafts, blocking=True)
def lines_add_up_to_total(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """The rounded lines of every draft sum to its net total, and net plus tax is its gross total."""
    with unit_of_work(worker_database) as session:
        drafts = invoice_list.drafts_of(session, day_of(context))
        subjects = [ids.to_wire(ids.INVOICE, row.invoice_id) for row in drafts]
        comparisons = reconcile.latest(session, reconcile.TOTALS, subjects)
    failing = [comparison for comparison in comparisons if not comparison.agrees]
    return dg.AssetCheckResult(passed=not failing, metadata={"drafts": len(drafts), "failing": table(failing)})


class FinalizeConfig(dg.Config):
    """What a person approved. There is no default: an invoice is never made final by accident."""

    approval_id: str = Field(description="Id of the approval, `apr_...`, given through the gateway's admin API.")


@dg.asset(group_name="invoices", owners=["team:finance"], kinds={"postgres"}, deps=[invoice_drafts])
def invoices(config: FinalizeConfig, worker_database: dg.ResourceParam[Engine]) -> dg.MaterializeResult[None]:
    """Final invoices: numbered without a gap, never changed again. Needs the approval of exactly the draft's total."""
    approval_id = ids.from_wire(ids.APPROVAL, config.approval_id)
    try:
        with unit_of_work(worker_database) as session:
            number = finalize.finalize(session, approval_id, clock.now())
            invoice_id = approval.invoice_of(session, approval_id)
            comparison = reconcile.reconcile_invoice(session, invoice_id, clock.now())
            totals = invoice_list.totals_of(session, invoice_id)
            lines = invoice_list.lines_of(session, invoice_id)
    except StudioError as error:
        raise dg.Failure(error.message, allow_retries=False) from error
    return dg.MaterializeResult(
        metadata={
            "number": number,
            "gross": f"{totals.gross} {totals.currency}",
            "gross_plot": float(totals.gross),
            "adds_up": comparison.agrees,
            "lines": table(lines),
        }
    )


class CorrectConfig(dg.Config):
    """What a person approved. There is no default, as for invoices."""

    approval_id: str = Field(description="Id of the approval of a correction, `apr_...`, given through the admin API.")


@dg.asset(group_name="invoices", owners=["team:finance"], kinds={"postgres"}, deps=[invoices])
def invoice_corrections(config: CorrectConfig, worker_database: dg.ResourceParam[Engine]) -> dg.MaterializeResult[None]:
    """Final corrections: each names the invoice that it corrects, has a number of its own, and stands in the ledger.

    Together they never take back more than there is. Needs the approval of exactly the correction's total.
    """
    approval_id = ids.from_wire(ids.APPROVAL, config.approval_id)
    try:
        with unit_of_work(worker_database) as session:
            number = correction_finalize.finalize_correction(session, approval_id, clock.now())
    except CorrectionOutdated as error:
        with unit_of_work(worker_database) as session:
            correction_finalize.drop_if_outdated(session, approval_id, clock.now())
        raise dg.Failure(error.message, allow_retries=False) from error
    except StudioError as error:
        raise dg.Failure(error.message, allow_retries=False) from error
    return dg.MaterializeResult(metadata={"number": number})


account_statements_rows_fit = border_check(
    account_statements, "account_statements_rows_fit", account_statements_schema, statement.statements
)
invoice_drafts_rows_fit = border_check(
    invoice_drafts, "invoice_drafts_rows_fit", invoice_drafts_schema, invoice_list.drafts_of
)
