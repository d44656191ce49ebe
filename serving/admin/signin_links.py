"""One-time links that sign somebody in, where there is no OpenID provider; and the end of somebody's sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from serving.admin.access import Caller, Transaction
from serving.routes.caller import Parts
from serving.texts import STORABLE
from studio import identity, signin_links
from studio.errors import PermissionDenied
from studio.settings import settings

router = APIRouter()


class NewSigninLink(BaseModel):
    """Whom the link signs in, and with which roles."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=STORABLE)]  # usage of one name hangs together
    tenants: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=100)] = []
    roles: list[Literal["owner", "developer", "finance", "auditor"]] = []  # in those tenants
    everywhere: list[Literal["ops", "finance", "auditor"]] = []


class SigninLinkView(BaseModel):
    """Good once, until it expires. The address is shown here and never again."""

    id: str
    url: str
    expires_at: datetime


class EndedSessions(BaseModel):
    """How many browsers were signed out."""

    ended: int


@router.post("/signin-links", status_code=201)
def post_signin_link(body: NewSigninLink, caller: Caller, parts: Parts, session: Transaction) -> SigninLinkView:
    """Make a link. In production only where `STUDIO_SIGNIN_LINKS` allows it."""
    if not parts.desk.takes_links:
        raise PermissionDenied(
            "One-time links are off here: people sign in with the provider. STUDIO_SIGNIN_LINKS=true allows them."
        )
    link = signin_links.create_link(
        session, body.name, caller.actor, tenants=body.tenants, roles=body.roles, everywhere=body.everywhere
    )
    # After the `#`: browsers send that to nobody, so it stands in no log and no preview uses it up.
    url = f"{settings().gateway_url.rstrip('/')}/en/signin#link={link.token}"
    return SigninLinkView(id=link.id, url=url, expires_at=link.expires_at)


@router.delete("/users/{user}/sessions")
def delete_sessions(user: str, caller: Caller, session: Transaction) -> EndedSessions:
    """Sign somebody out in every browser, at once. `user` is an id (`usr_...`) or a mail address."""
    found = identity.find_user(session, user)
    return EndedSessions(ended=identity.end_sessions(session, found, caller.actor))
