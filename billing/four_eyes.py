"""Two persons: who may approve what somebody else has reviewed, said in sentences before the database refuses it.

The database holds the rule (`0020_approvals_up.sql`); here a caller learns who must act. Amounts below an entity's
`four_eyes_from` need one person only.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from studio.db.approvals import Review
from studio.db.corrections import Correction
from studio.db.invoices import Invoice
from studio.db.tenancy import LegalEntity
from studio.errors import Conflict


class ReviewMissing(Conflict):
    """Nobody but the approver has looked at what stands there now."""

    default_code = "review_missing"


class SamePerson(Conflict):
    """Whoever reviewed or asked cannot be the one who approves."""

    default_code = "same_person"


class PersonNeeded(Conflict):
    """The legal entity wants people who signed in, not keys."""

    default_code = "person_needed"


class DraftChanged(Conflict):
    """The draft says something else than what was approved, with the same total."""

    default_code = "draft_changed"


def person_of(actor: str) -> str:
    """The identity in the name of an actor, without the mail address; as the database's function does it."""
    return actor.partition(" (")[0] if actor.startswith("oidc:") else actor


def needs_two(seller: LegalEntity, currency: str, gross: Decimal) -> bool:
    """Whether this amount of this seller is made final by two persons."""
    return seller.currency != currency or gross >= seller.four_eyes_from


def require_person(seller: LegalEntity, actor: str) -> None:
    """PersonNeeded where the entity counts only people and this is a key."""
    if seller.four_eyes_by == "people" and not actor.startswith("oidc:"):
        raise PersonNeeded(
            f"{seller.name} lets only people review and approve, not API keys: sign in through your OpenID provider."
        )


def content_of(session: Session, draft: Invoice | Correction) -> str:
    """The hash of everything that a draft says."""
    query = _CORRECTION_CONTENT if isinstance(draft, Correction) else _INVOICE_CONTENT
    content: str = session.execute(query, {"id": draft.id}).scalar_one()
    return content


def reviewers(session: Session, draft: Invoice | Correction) -> list[str]:
    """Who has reviewed just this content, in order."""
    return list(session.scalars(_reviews_of(draft).where(Review.content_sha256 == content_of(session, draft))))


def require_second(session: Session, draft: Invoice | Correction, wire_id: str, approver: str) -> None:
    """ReviewMissing, SamePerson or PersonNeeded unless `approver` may approve the draft as it stands."""
    seller = session.get_one(LegalEntity, draft.legal_entity_id)
    if not needs_two(seller, draft.currency, draft.gross):
        return
    require_person(seller, approver)
    found = reviewers(session, draft)
    if any(person_of(reviewer) != person_of(approver) for reviewer in found):
        return
    if found:
        raise SamePerson(f"You have reviewed {wire_id} yourself; somebody else approves it.")
    was_reviewed = session.scalars(_reviews_of(draft).limit(1)).first() is not None
    why = "It was redone since its review, so that counts no more." if was_reviewed else "Nobody has reviewed it."
    raise ReviewMissing(
        f"{why} Somebody else reviews it first (`studio invoice review {wire_id} --total {draft.gross}`),"
        " then you approve."
    )


def require_content(session: Session, draft: Invoice | Correction, approved: str | None) -> None:
    """DraftChanged unless the draft still says what was approved."""
    if approved != content_of(session, draft):
        raise DraftChanged("The draft has changed since it was approved: look at it again, review and approve it anew.")


def _reviews_of(draft: Invoice | Correction) -> Select[str]:
    if isinstance(draft, Correction):
        which = Review.correction_id == draft.id
    else:
        which = (Review.invoice_id == draft.id) & Review.correction_id.is_(None)
    return select(Review.reviewed_by).where(which).order_by(Review.reviewed_at, Review.id)


_INVOICE_CONTENT = text("select invoice_content_sha256(i) from invoices i where i.id = :id")
_CORRECTION_CONTENT = text("select correction_content_sha256(c) from corrections c where c.id = :id")
