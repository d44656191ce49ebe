"""Importing a bank statement: all of its entries are booked, once, in one transaction, and matched where they can be.

Money that came in is a payment, and so is what the bank took back of it. Other money that left is not: wages and rent
belong into the company's main books, and what we pay out to customers is recorded by whoever does it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from billing import equal_transfers, payment_queue, payments, statement_csv
from billing.bank_statement import BankEntry, Format, Statement, StatementUnreadable
from billing.payment_lookup import decision_for
from billing.payments import NewPayment
from studio import clock, ids
from studio.db.payments import Payment, PaymentMatch, StatementFile
from studio.db.tenancy import LegalEntity


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file. `known`: entries that an earlier file had; `ignored`: no customer's, or not booked yet."""

    file_id: UUID
    format: Format
    entries: int
    booked: int
    known: int
    ignored: int
    matched: int
    is_repeated: bool


def import_statement(
    session: Session, body: bytes, name: str, by: str, now: datetime, equal: equal_transfers.Said | None = None
) -> Imported:
    """Book a CAMT.053 or CSV file whole, or not at all. The same file again books nothing.

    `equal`: what somebody says of transfers that look like booked ones. StatementUnreadable, with the place, for a file
    that is none, or is of an account that is not ours; EqualTransfers where somebody has to say.
    """
    statement = read(body)
    owners = _owners(session)
    for entry in statement.entries:
        if entry.account not in owners:
            raise StatementUnreadable(
                f"The account {entry.account} belongs to no legal entity: add it to `bank_accounts` in"
                " catalog/legal_entities.yaml. Nothing of the file was booked."
            )
    payments.take_turns(session)
    sha256 = hashlib.sha256(body).hexdigest()
    before = session.scalars(select(StatementFile).where(StatementFile.sha256 == sha256)).one_or_none()
    if before is not None:
        return Imported(
            before.id, statement.format, before.entries, 0, before.entries - before.ignored, before.ignored, 0, True
        )
    wanted = [entry for entry in statement.entries if entry.amount > 0 or entry.is_return]
    ignored = statement.ignored + len(statement.entries) - len(wanted)
    known = _booked(session, wanted)
    wanted = list(equal_transfers.settled(session, wanted, known, equal))
    known = _booked(session, wanted)
    new = [entry for entry in wanted if entry.key not in known]
    file_id = ids.uuid7()
    entries, repeated = len(statement.entries) + statement.ignored, len(wanted) - len(new)
    session.execute(
        insert(StatementFile).values(
            id=file_id, sha256=sha256, name=name, format=statement.format, entries=entries, booked=len(new),
            known=repeated, ignored=ignored, imported_by=by, imported_at=now,
        )
    )  # fmt: skip
    for entry in new:  # before anything is booked: whoever waits here must not hold up the closing of a day
        original = _original(session, entry, owners[entry.account])
        if original is not None:
            payments.hold_credit(session, original)
    matched = 0
    # What came in first: a return of the same file finds what it takes back.
    for entry in sorted(new, key=lambda entry: (entry.booked_on, entry.is_return)):
        matched += _book(session, entry, owners[entry.account], statement.format, file_id, by, now)
    return Imported(file_id, statement.format, entries, len(new), repeated, ignored, matched, False)


def read(body: bytes) -> Statement:
    """A file as what it is: XML is CAMT.053, anything else CSV."""
    is_xml = body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") or body[:2] in (b"\xff\xfe", b"\xfe\xff")
    if not is_xml:
        return statement_csv.parse(body)
    from billing import camt  # libxml2 is 2 MiB of a process, and gateways hardly ever read a statement

    return camt.parse(body)


def match_waiting(session: Session, by: str, now: datetime) -> list[UUID]:
    """Try again what waits and nobody has touched: its invoice may be there by now. Those that were matched."""
    payments.take_turns(session)
    matched = []
    for waiting in payment_queue.waiting(session):
        if not waiting.is_touched:
            payment = payments.find(session, waiting.id)
            if _match(session, payment, by, now):
                matched.append(payment.id)
    return matched


def _book(
    session: Session, entry: BankEntry, seller: LegalEntity, source: Format, file_id: UUID, by: str, now: datetime
) -> bool:
    """Record one entry and match it; whether it was matched."""
    original = _original(session, entry, seller)
    new = NewPayment(
        legal_entity_id=seller.id, currency=entry.currency, amount=entry.amount, account=entry.account, source=source,
        entry_key=entry.key, booked_on=entry.booked_on, payer=entry.payer, payer_account=entry.payer_account,
        remittance=entry.remittance, end_to_end_id=entry.end_to_end_id, is_return=entry.is_return, file_id=file_id,
    )  # fmt: skip
    payment = payments.record(session, new, by)
    assert payment is not None, "the keys of a file are new, and we take turns"
    if original is not None:
        why = f"the bank took {ids.to_wire(ids.PAYMENT, original.id)} back"
        payments.take_back(session, payment, original, by, why, now)
        return True
    return _match(session, payment, by, now)


def _match(session: Session, payment: Payment, by: str, now: datetime) -> bool:
    decision = decision_for(session, payment, _today(session, payment, now))
    if decision.parts:
        payments.match(session, payment, decision.parts, by, decision.why, now)
    return bool(decision.parts)


def _original(session: Session, entry: BankEntry, seller: LegalEntity) -> Payment | None:
    """What a return takes back: the one payment of just this amount with the same end-to-end id, or else the same text.

    None for what is no return, and where a person has to say.
    """
    if entry.amount > 0 or not entry.is_return:
        return None
    same = (
        Payment.legal_entity_id == seller.id,
        Payment.account == entry.account,
        Payment.currency == entry.currency,
        Payment.amount == -entry.amount,
        Payment.booked_on <= entry.booked_on,
    )
    by_id = Payment.end_to_end_id == entry.end_to_end_id
    by_text = Payment.remittance == entry.remittance
    tellings = ([by_id] if entry.end_to_end_id else []) + ([by_text] if entry.remittance else [])
    for telling in tellings:
        found = session.scalars(select(Payment).where(*same, telling)).all()
        left = [payment for payment in found if not _is_taken_back(session, payment)]
        if len(left) == 1:
            return left[0]
    return None


def _is_taken_back(session: Session, payment: Payment) -> bool:
    """Whether anything of it has gone back: then a person says what the rest is."""
    own = select(PaymentMatch.id).where(PaymentMatch.payment_id == payment.id)
    taken = select(PaymentMatch.id).where(PaymentMatch.reverses_id.in_(own), PaymentMatch.payment_id != payment.id)
    outside = select(PaymentMatch.id).where(PaymentMatch.payment_id == payment.id, PaymentMatch.target == "outside")
    return session.scalars(taken.union_all(outside).limit(1)).first() is not None


def _booked(session: Session, entries: Sequence[BankEntry]) -> set[str]:
    keys = [entry.key for entry in entries]
    return set(session.scalars(select(Payment.entry_key).where(Payment.entry_key.in_(keys))))


def _owners(session: Session) -> dict[str, LegalEntity]:
    sellers = session.scalars(select(LegalEntity).order_by(LegalEntity.id)).all()
    return {account: seller for seller in sellers for account in seller.bank_accounts}


def _today(session: Session, payment: Payment, now: datetime) -> date:
    seller = session.get_one(LegalEntity, payment.legal_entity_id)
    return now.astimezone(clock.zone(seller.time_zone)).date()
