"""Days of the ledger: closed by the calendar, one link of the chain each, and verified from the first on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from itertools import groupby

from sqlalchemy import ColumnElement, Text, cast, func, insert, select, text
from sqlalchemy.orm import Session

from billing import chain
from billing.chain import GENESIS, BookedEntry, BookedTransaction, Break, Link
from studio.db.ledger import LedgerAccount, LedgerDay, LedgerEntry, LedgerTransaction


@dataclass(frozen=True, slots=True)
class Verification:
    """What the chain says of the ledger. `head`: the newest link, to be kept elsewhere."""

    days: int
    transactions: int
    head: str
    broken: Break | None


def open_days(session: Session, now: datetime) -> list[date]:
    """Days that are over, have transactions, and are not closed."""
    closed = select(LedgerDay.day)
    query = (
        select(LedgerTransaction.recorded_on)
        .where(LedgerTransaction.recorded_on < now.astimezone(UTC).date(), LedgerTransaction.recorded_on.not_in(closed))
        .distinct()
        .order_by(LedgerTransaction.recorded_on)
    )
    return list(session.scalars(query))


def close_days(session: Session, now: datetime) -> list[Link]:
    """Close every day that is over. Afterwards nothing can be booked on it, by anybody (a trigger)."""
    session.execute(_ALONE)
    newest = session.scalars(select(LedgerDay.sha256).order_by(LedgerDay.day.desc()).limit(1)).one_or_none()
    previous, links = newest or GENESIS, []
    for day in open_days(session, now):
        links.append(
            chain.link(previous, day, chain.content(_transactions(session, LedgerTransaction.recorded_on == day)))
        )
        previous = links[-1].sha256
    if links:
        session.execute(insert(LedgerDay), [asdict(one) for one in links])
    return links


def stored_links(session: Session) -> list[Link]:
    """The chain as it stands in the database."""
    columns = [LedgerDay.__table__.c[field.name] for field in fields(Link)]
    return [Link(**row) for row in session.execute(select(*columns).order_by(LedgerDay.day)).mappings()]


def verify(session: Session, kept: Mapping[date, str]) -> Verification:
    """Compute the chain again from the first day on. `kept`: the copy outside the database, empty if there is none."""
    links = stored_links(session)
    last = max((*(one.day for one in links), *kept), default=date.min)
    transactions = _transactions(session, LedgerTransaction.recorded_on <= last)
    days = {day: chain.content(of_day) for day, of_day in groupby(transactions, key=lambda one: one.recorded_on)}
    head = links[-1].sha256 if links else GENESIS
    broken = chain.first_break(links, days, kept)
    return Verification(len(links), sum(one.transactions for one in links), head, broken)


def _transactions(session: Session, which: ColumnElement[bool]) -> Iterator[BookedTransaction]:
    """By day, and in it by id. Plain columns: a mapped object for each entry would triple the time."""
    account = func.concat_ws(
        "/",
        LedgerAccount.legal_entity_id,
        LedgerAccount.kind,
        LedgerAccount.currency,
        func.coalesce(cast(LedgerAccount.tenant_id, Text), ""),
        LedgerAccount.detail,
    )
    entry = (LedgerEntry.n, account, LedgerEntry.currency, LedgerEntry.amount, LedgerEntry.line_no)
    query = (
        select(*_TRANSACTION, *entry)
        .join(LedgerEntry, LedgerEntry.transaction_id == LedgerTransaction.id)
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(which)
        .order_by(LedgerTransaction.recorded_on, LedgerTransaction.id, LedgerEntry.n)
    )
    rows = session.execute(query.execution_options(yield_per=5_000))
    for head, group in groupby(rows, key=lambda row: tuple(row[: len(_TRANSACTION)])):
        entries = tuple(BookedEntry(*row[len(_TRANSACTION) :]) for row in group)
        yield BookedTransaction(**dict(zip(_NAMES, head, strict=True)), entries=entries)


_NAMES = [field.name for field in fields(BookedTransaction) if field.name != "entries"]
_TRANSACTION = [LedgerTransaction.__table__.c[name] for name in _NAMES]

# Waits for every posting that is under way; those that come later get a stamp of their own time.
_ALONE = text("select pg_advisory_xact_lock(hashtextextended('ledger', 0))")
