"""Requests for credit: one person asks for a lot, another grants or declines it. From `four_eyes_credit_from` on."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from billing import credit_lots, four_eyes
from billing.four_eyes import SamePerson
from billing.postings import Lot, LotKind
from studio import ids
from studio.db.approvals import CreditRequest
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.money import CENT


class AlreadyAnswered(Conflict):
    """A request is granted or declined, once."""

    default_code = "already_answered"


def request(
    session: Session,
    *,
    tenant_id: UUID,
    kind: LotKind,
    amount: Decimal,
    expires_on: date | None,
    by: str,
    reason: str,
    now: datetime,
) -> UUID:
    """Ask for a lot; the request's id. Nothing is booked."""
    if amount <= 0 or amount != amount.quantize(CENT):
        raise InvalidRequest(f"{amount} is no amount of credit: use more than zero, with two decimals.", param="amount")
    request_id = ids.uuid7()
    session.execute(
        insert(CreditRequest).values(
            id=request_id, tenant_id=tenant_id, kind=kind, amount=amount, expires_on=expires_on, reason=reason,
            requested_by=by, requested_at=now,
        )
    )  # fmt: skip
    return request_id


def approve(session: Session, request_id: UUID, *, by: str, now: datetime) -> Lot:
    """Grant what somebody else asked for; the lot. SamePerson for the one who asked, AlreadyAnswered."""
    asked = _find(session, request_id)
    if four_eyes.person_of(asked.requested_by) == four_eyes.person_of(by):
        raise SamePerson("You have asked for this credit yourself; somebody else approves it.")
    _answer(session, request_id, approved_by=by, approved_at=now)
    seller, _ = credit_lots.seller_of(session, asked.tenant_id, now)
    for actor in (asked.requested_by, by):
        four_eyes.require_person(seller, actor)
    return credit_lots.grant(
        session, tenant_id=asked.tenant_id, kind=asked.kind, amount=asked.amount,  # type: ignore[arg-type]  # a check
        expires_on=asked.expires_on, by=by, reason=asked.reason, now=now, request_id=request_id,
    )  # fmt: skip


def decline(session: Session, request_id: UUID, *, by: str, reason: str, now: datetime) -> CreditRequest:
    """Nothing is booked, and the request is over. Whoever asked may take it back so. AlreadyAnswered."""
    asked = _find(session, request_id)
    _answer(session, request_id, declined_by=by, declined_at=now, decline_reason=reason)
    return asked


def open_requests(session: Session) -> list[CreditRequest]:
    """Those that nobody has answered, oldest first."""
    return list(session.scalars(select(CreditRequest).where(*_UNANSWERED).order_by(CreditRequest.requested_at)))


def _find(session: Session, request_id: UUID) -> CreditRequest:
    asked = session.get(CreditRequest, request_id)
    if asked is None:
        raise NotFound(f"There is no request for credit {ids.to_wire(ids.CREDIT_REQUEST, request_id)}.")
    return asked


def _answer(session: Session, request_id: UUID, **values: object) -> None:
    answered = session.execute(
        update(CreditRequest)
        .where(CreditRequest.id == request_id, *_UNANSWERED)
        .values(**values)
        .returning(CreditRequest.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if answered is None:
        raise AlreadyAnswered("This request was granted or declined already.")


_UNANSWERED = (CreditRequest.approved_at.is_(None), CreditRequest.declined_at.is_(None))
