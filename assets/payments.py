"""Money in: the bank's statements become payments, payments pay invoices, and what is overdue is reminded."""

from dataclasses import asdict

import dagster as dg
from sqlalchemy import Engine, select

from assets.invoices import invoices
from assets.ledger import ledger
from assets.tables import table
from billing import dunning, payment_import, payment_inbox, payment_queue, receivables
from billing.payment_orders import today
from studio import clock
from studio.db.sessions import unit_of_work
from studio.db.tenancy import LegalEntity
from studio.objects import ObjectStore

OLD_AFTER_DAYS = 7  # what nobody has recognised for so long turns the check red
ACTOR = "dagster"


@dg.asset(group_name="invoices", owners=["team:finance"], kinds={"s3", "postgres"})
def bank_statements(
    worker_database: dg.ResourceParam[Engine], objects: dg.ResourceParam[ObjectStore]
) -> dg.MaterializeResult[None]:
    """CAMT.053 and CSV files that finance put under `inbox/` of the bucket `bank-statements`, each booked whole, once.

    A file that was booked moves to `imported/`; one that cannot be read moves to `refused/`, with the reason beside it.
    `studio payment import` does the same without the bucket.
    """

    def book(body: bytes, name: str) -> payment_import.Imported:
        with unit_of_work(worker_database) as session:
            return payment_import.import_statement(session, body, name, ACTOR, clock.now())

    imported, refused = payment_inbox.empty(objects, book)
    return dg.MaterializeResult(
        metadata={
            "files": len(imported),
            "refused": len(refused),
            "booked_payments": sum(one.booked for one in imported.values()),
            "imported_files": table([{"file": name, **asdict(one)} for name, one in imported.items()]),
            "refused_files": table([{"file": name, "why": why} for name, why in refused.items()]),
        }
    )


@dg.asset_check(asset=bank_statements)
def every_statement_is_read(objects: dg.ResourceParam[ObjectStore]) -> dg.AssetCheckResult:
    """No file lies in `refused/`: somebody has looked at each and removed it."""
    refused = payment_inbox.refused(objects)
    return dg.AssetCheckResult(passed=not refused, metadata={"refused": table([{"file": one} for one in refused])})


@dg.asset(group_name="invoices", owners=["team:finance"], kinds={"postgres"}, deps=[bank_statements, invoices])
def payments(worker_database: dg.ResourceParam[Engine]) -> dg.MaterializeResult[None]:
    """What came in and what it pays. Money with a reference finds its invoice by itself, also one that comes later.

    Everything else waits for a person: `studio payment list --waiting`.
    """
    now = clock.now()
    with unit_of_work(worker_database) as session:
        matched = payment_import.match_waiting(session, ACTOR, now)
    with unit_of_work(worker_database) as session:
        waiting = payment_queue.waiting(session)
        found = payment_queue.payments(session, limit=200)
        unsettled = receivables.standings(session, only_unsettled=True)
        days = {seller.id: today(seller, now) for seller in session.scalars(select(LegalEntity)).all()}
    ages = receivables.ageing(unsettled, max(days.values(), default=now.date()))
    return dg.MaterializeResult(
        metadata={
            "matched_now": len(matched),
            "waiting": len(waiting),
            "overdue_invoices": sum(
                one.open > 0 and one.days_overdue(days[one.legal_entity_id]) > 0 for one in unsettled
            ),
            "waiting_payments": table(waiting),
            "newest_payments": table(found),
            "ageing": table(ages),
            **{
                f"{currency}_{bucket}_plot": float(
                    sum(getattr(age, bucket) for age in ages if age.currency == currency)
                )
                for currency in sorted({age.currency for age in ages})
                for bucket in receivables.BUCKETS
            },
        }
    )


@dg.asset_check(asset=payments)
def no_money_waits_long(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """Nothing on the clearing account has waited for a person for more than a week."""
    with unit_of_work(worker_database) as session:
        waiting = payment_queue.waiting(session)
    now = clock.now().date()
    old = [one for one in waiting if (now - one.booked_on).days > OLD_AFTER_DAYS]
    return dg.AssetCheckResult(passed=not old, metadata={"waiting": len(waiting), "old": table(old)})


@dg.asset_check(asset=payments, additional_deps=[ledger])
def ledger_equals_payments(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """Every payment and match stands in the ledger with its amount, in its accounts; nothing else does."""
    with unit_of_work(worker_database) as session:
        unequal = payment_queue.differences(session)
    return dg.AssetCheckResult(passed=not unequal, metadata={"unequal": table(unequal)})


@dg.asset(group_name="invoices", owners=["team:finance"], kinds={"postgres"}, deps=[payments])
def dunning_notices(worker_database: dg.ResourceParam[Engine]) -> dg.MaterializeResult[None]:
    """Reminders that are to be sent: once for each overdue invoice and level, with what was open on that day. The asset
    `mails` mails them where mail is set up; else a person does."""
    with unit_of_work(worker_database) as session:
        written = dunning.propose(session, clock.now())
        newest = dunning.notices(session, 200)
    return dg.MaterializeResult(
        metadata={"proposed": len(written), "proposed_now": table(written), "newest": table(newest)}
    )
