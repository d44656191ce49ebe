"""People who sign in, and the roles that operators grant them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from serving.admin.access import Caller, Transaction
from studio import identity, ids
from studio.db.identity import Membership, User
from studio.db.tenancy import ApiKey, Tenant
from studio.errors import InvalidRequest
from studio.tenants import find_tenant

router = APIRouter()

RoleName = Literal["owner", "developer", "finance", "ops", "auditor"]


class NewMembership(BaseModel):
    """A role in a tenant; without one, everywhere."""

    model_config = ConfigDict(extra="forbid")

    role: RoleName
    tenant: str | None = None


class MembershipView(BaseModel):
    """One role. `origin` claims: the user's latest token said so; granted: an operator did."""

    id: str
    role: RoleName
    tenant: str | None
    origin: Literal["claims", "granted"]
    granted_by: str | None
    created_at: datetime


class PersonalKeyView(BaseModel):
    """The key that stands for the user in a tenant. Revoked, it ends the user's access there."""

    id: str
    tenant: str
    revoked_at: datetime | None


class UserView(BaseModel):
    """Somebody who has signed in."""

    id: str
    issuer: str
    subject: str
    email: str | None
    name: str | None
    created_at: datetime
    last_seen_at: datetime
    memberships: list[MembershipView]
    keys: list[PersonalKeyView]


@router.get("/users")
def get_users(session: Transaction) -> list[UserView]:
    """Everybody who has ever signed in, who came last first."""
    return [_view(session, user) for user in identity.users(session)]


@router.post("/users/{user}/memberships", status_code=201)
def post_membership(user: str, body: NewMembership, caller: Caller, session: Transaction) -> MembershipView:
    """Grant a role. `user` is an id (`usr_...`) or a mail address; it holds within a second."""
    tenant = find_tenant(session, body.tenant) if body.tenant is not None else None
    found = identity.find_user(session, user)
    granted = identity.grant(session, found, body.role, tenant.id if tenant else None, caller.actor)
    return _membership(granted, tenant.slug if tenant else None)


@router.delete("/memberships/{membership_id}", status_code=204)
def delete_membership(membership_id: str, caller: Caller, session: Transaction) -> None:
    """End a granted role within a second."""
    try:
        id = ids.from_wire(ids.MEMBERSHIP, membership_id)
    except ValueError as error:
        raise InvalidRequest(str(error), param="membership_id") from error
    identity.revoke(session, id, caller.actor)


def _view(session: Transaction, user: User) -> UserView:
    memberships = session.execute(
        select(Membership, Tenant.slug)
        .join(Tenant, Tenant.id == Membership.tenant_id, isouter=True)
        .where(Membership.user_id == user.id)
        .order_by(Membership.created_at, Membership.role)
    ).tuples()
    keys = session.execute(
        select(ApiKey.id, Tenant.slug, ApiKey.revoked_at).join(Tenant).where(ApiKey.user_id == user.id)
    ).tuples()
    return UserView(
        id=ids.to_wire(ids.USER, user.id),
        issuer=user.issuer,
        subject=user.subject,
        email=user.email,
        name=user.name,
        created_at=user.created_at,
        last_seen_at=user.last_seen_at,
        memberships=[_membership(membership, slug) for membership, slug in memberships],
        keys=[
            PersonalKeyView(id=ids.to_wire(ids.API_KEY, id), tenant=slug, revoked_at=revoked_at)
            for id, slug, revoked_at in keys
        ],
    )


def _membership(row: Membership, tenant: str | None) -> MembershipView:
    return MembershipView(
        id=ids.to_wire(ids.MEMBERSHIP, row.id),
        role=row.role,
        tenant=tenant,
        origin=row.origin,
        granted_by=row.granted_by,
        created_at=row.created_at,
    )
