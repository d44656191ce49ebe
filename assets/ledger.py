"""The ledger asset: what invoices and credit have booked, closed day by day, with the checks that finance signs by."""

import dagster as dg
from sqlalchemy import Engine

from assets.invoices import invoice_corrections, invoices
from assets.tables import table
from billing import balances, chain, invoice_booking, ledger_days, ledger_work
from studio import clock
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore


@dg.asset(
    group_name="invoices", owners=["team:finance"], kinds={"postgres", "s3"}, deps=[invoices, invoice_corrections]
)
def ledger(
    worker_database: dg.ResourceParam[Engine], objects: dg.ResourceParam[ObjectStore]
) -> dg.MaterializeResult[None]:
    """Double entry: final invoices, corrections, lots of credit, to twelve decimals. Nothing in it is ever changed.

    Books what was missed, lets credit expire and closes each UTC day that is over with a hash that is chained to the
    day before. The chain is copied to the bucket `invoices`, unless it contradicts the copy that is there.
    """
    now = clock.now()
    with unit_of_work(worker_database) as session:
        done = ledger_work.do(session, now)
    with unit_of_work(worker_database) as session:
        closed = ledger_days.close_days(session, now)
    kept = chain.from_json(objects.get(Bucket.INVOICES, chain.COPY))
    with unit_of_work(worker_database) as session:
        verification = ledger_days.verify(session, kept)
        links = ledger_days.stored_links(session)
        found = balances.balances(session)
    if verification.broken is None and links:
        objects.put(Bucket.INVOICES, chain.COPY, chain.as_json(links), content_type="application/json")
    return dg.MaterializeResult(
        metadata={
            "closed_days": len(closed),
            "transactions": verification.transactions,
            "head": verification.head,
            "done": "\n".join(done) or "nothing was waiting",
            "balances": table(found),
            **{
                f"{balance.legal_entity_id}_{balance.kind}_{balance.currency}_plot": float(balance.amount)
                for balance in found
                if balance.kind in ("receivable", "bank")
            },
        }
    )


@dg.asset_check(asset=ledger)
def ledger_sums_to_zero(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """Every transaction has all its entries, and they sum to zero in each currency."""
    with unit_of_work(worker_database) as session:
        wrong = balances.imbalances(session)
    return dg.AssetCheckResult(passed=not wrong, metadata={"wrong": table(wrong)})


@dg.asset_check(asset=ledger)
def ledger_days_are_as_closed(
    worker_database: dg.ResourceParam[Engine], objects: dg.ResourceParam[ObjectStore]
) -> dg.AssetCheckResult:
    """No closed day was changed since, not even by the owner of the tables: the hash of each follows from the last."""
    kept = chain.from_json(objects.get(Bucket.INVOICES, chain.COPY))
    with unit_of_work(worker_database) as session:
        said = ledger_days.verify(session, kept)
    metadata: dict[str, str | int] = {"days": said.days, "transactions": said.transactions, "head": said.head}
    if said.broken is not None:
        metadata |= {"first_broken_day": said.broken.day.isoformat(), "why": said.broken.why}
    return dg.AssetCheckResult(passed=said.broken is None, metadata=metadata)


@dg.asset_check(asset=invoices, additional_deps=[invoice_corrections])
def ledger_equals_invoices(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """Final invoices and corrections stand in the ledger with net, exact net, VAT, total, credit; nothing else does."""
    with unit_of_work(worker_database) as session:
        unequal = invoice_booking.unequal(session)
    return dg.AssetCheckResult(passed=not unequal, metadata={"unequal": table(unequal)})
