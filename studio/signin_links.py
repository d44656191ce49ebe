"""Links that sign somebody in once, for a machine without an OpenID provider. Code here never commits."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from studio import clock, ids
from studio.db.web_sessions import SigninLink
from studio.errors import InvalidRequest
from studio.tenants import audit, find_tenant

HOLDS_FOR = timedelta(minutes=15)
IN_TENANT = frozenset({"owner", "developer", "finance", "auditor"})
EVERYWHERE = frozenset({"ops", "finance", "auditor"})


@dataclass(frozen=True, slots=True)
class CreatedLink:
    """A new link; `token` exists only here and in the answer to its creator."""

    id: str
    token: str = field(repr=False)
    expires_at: datetime


def create_link(
    session: Session,
    name: str,
    actor: str,
    *,
    tenants: Collection[str],
    roles: Collection[str],
    everywhere: Collection[str],
) -> CreatedLink:
    """For whoever opens it first. InvalidRequest for roles that there are not, NotFound for tenants."""
    if not roles and not everywhere:
        raise InvalidRequest("a link without a role leads nowhere: name one", param="roles")
    if unknown := sorted(set(roles) - IN_TENANT | set(everywhere) - EVERYWHERE):
        raise InvalidRequest(f"there is no such role: {', '.join(unknown)}", param="roles")
    if bool(roles) != bool(tenants):
        raise InvalidRequest("roles in a tenant need a tenant, and the reverse", param="tenants")
    for slug in tenants:
        find_tenant(session, slug)
    token = secrets.token_urlsafe(32)
    link = SigninLink(
        id=ids.uuid7(),
        token_hash=hashlib.sha256(token.encode()).digest(),
        name=name,
        tenants=sorted(set(tenants)),
        roles=sorted(set(roles)),
        everywhere=sorted(set(everywhere)),
        created_by=actor,
        expires_at=clock.now() + HOLDS_FOR,
    )
    session.add(link)
    id = ids.to_wire(ids.SIGNIN_LINK, link.id)
    details = {"name": name, "tenants": link.tenants, "roles": link.roles, "everywhere": link.everywhere}
    audit(session, actor, "signin_link.create", id, None, details)
    return CreatedLink(id, token, link.expires_at)
