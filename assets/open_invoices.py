"""The list that finance works through: what is on its way to a final invoice, and whom it waits for."""

from collections.abc import Sequence

import dagster as dg
from sqlalchemy import Engine

from assets.invoices import invoice_drafts
from assets.tables import table
from billing import open_invoices as listing
from billing.open_invoices import OpenInvoice
from studio.db.sessions import unit_of_work


@dg.asset(group_name="invoices", owners=["team:finance"], kinds={"postgres"}, deps=[invoice_drafts])
def open_invoices(worker_database: dg.ResourceParam[Engine]) -> dg.MaterializeResult[None]:
    """Drafts, corrections and requests that are not final: what each waits for and who must act. A sensor keeps it
    current. People act through the API or the console, never here."""
    with unit_of_work(worker_database) as session:
        rows = listing.open_invoices(session)
    return dg.MaterializeResult(metadata=waiting_metadata(rows))


def waiting_metadata(rows: Sequence[OpenInvoice]) -> dict[str, dg.MetadataValue]:
    """The table, and how many wait for what, for the asset page."""
    counts = {f"waits_for_{kind}": sum(row.waits_for == kind for row in rows) for kind in listing.WAITS}
    return {
        "waiting": table(rows),
        **{name: dg.MetadataValue.int(count) for name, count in counts.items()},
    }
