"""People and what operators grant them, every change in the audit log. Code here never commits.

What a token says is recorded by the gateway itself; here is what holds beside that, until it is ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from studio import clock, ids
from studio.db.identity import Membership, User
from studio.db.tenancy import ApiKey
from studio.db.web_sessions import WebSession
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.tenants import audit

ROLES = ("owner", "developer", "finance", "ops", "auditor")


def users(session: Session) -> Sequence[User]:
    """Everybody who has ever signed in, who came last first."""
    return session.scalars(select(User).order_by(User.last_seen_at.desc())).all()


def find_user(session: Session, name: str) -> User:
    """By id (`usr_...`), or by a mail address that only one user has."""
    if name.startswith(ids.USER):
        try:
            user = session.get(User, ids.from_wire(ids.USER, name))
        except ValueError as error:
            raise InvalidRequest(str(error), param="user") from error
        found = [user] if user else []
    else:
        found = list(session.scalars(select(User).where(User.email == name)))
    if len(found) > 1:
        raise Conflict(f"{len(found)} users have the address {name}; name one by its id: see the list of users")
    if not found:
        raise NotFound(
            f"there is no user {name}",
            way_out="People appear in the list of users when they first sign in.",
            param="user",
        )
    return found[0]


def grant(session: Session, user: User, role: str, tenant_id: UUID | None, actor: str) -> Membership:
    """A role in a tenant, or everywhere. It opens again what a revoked key of the user has closed."""
    if role not in ROLES:
        raise InvalidRequest(f"roles are {', '.join(ROLES)}", param="role")
    if tenant_id is None and role in ("owner", "developer"):
        raise InvalidRequest(f"a {role} belongs to a tenant: name it", param="tenant")
    if tenant_id is not None and role == "ops":
        raise InvalidRequest("ops work for all tenants: leave the tenant out", param="tenant")
    is_known = (
        select(Membership.id)
        .where(Membership.user_id == user.id, Membership.tenant_id.is_not_distinct_from(tenant_id))
        .where(Membership.role == role, Membership.origin == "granted")
    )
    if session.scalar(is_known) is not None:
        raise Conflict("the user has this role already")
    membership = Membership(
        id=ids.uuid7(), user_id=user.id, tenant_id=tenant_id, role=role, origin="granted", granted_by=actor
    )
    session.add(membership)
    session.flush()
    session.refresh(membership)
    if tenant_id is not None:
        of_the_user = (ApiKey.user_id == user.id, ApiKey.tenant_id == tenant_id, ApiKey.revoked_at.is_not(None))
        session.execute(update(ApiKey).where(*of_the_user).values(revoked_at=None))
    audit(session, actor, "user.grant", _name(user.id), tenant_id, {"role": role})
    return membership


def revoke(session: Session, membership_id: UUID, actor: str) -> None:
    """End what was granted. What a token says can only be ended where tokens are made."""
    membership = session.get(Membership, membership_id)
    if membership is None:
        raise NotFound("there is no membership with this id")
    if membership.origin == "claims":
        raise Conflict(
            "this membership comes from the sign-in provider: take the role away there. To end the user's access to"
            " the tenant at once, revoke the key that stands for the user; the list of users names it"
        )
    session.delete(membership)
    audit(session, actor, "user.revoke", _name(membership.user_id), membership.tenant_id, {"role": membership.role})


def end_sessions(session: Session, user: User, actor: str) -> int:
    """Sign somebody out of every browser; how many that were. They may sign in again."""
    of_the_user = (WebSession.user_id == user.id, WebSession.ended_at.is_(None), WebSession.expires_at > clock.now())
    statement = update(WebSession).where(*of_the_user).values(ended_at=clock.now()).returning(WebSession.id)
    ended = session.scalars(statement.execution_options(synchronize_session=False)).all()
    audit(session, actor, "user.end_sessions", _name(user.id), None, {"ended": len(ended)})
    return len(ended)


def _name(user_id: UUID) -> str:
    return ids.to_wire(ids.USER, user_id)
