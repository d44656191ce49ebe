"""`/auth`: how people sign in and out in a browser. No `GET` here changes anything that somebody has.

Where it is about a page for people, the answer leads to one: `/<language>/signin` says what went wrong and the way out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from serving.identity.callers import session_secret
from serving.identity.needs import PUBLIC
from serving.routes.caller import Parts
from serving.sign_in.attempts import HOLDS_FOR, Attempt, name_of, safe_path
from serving.sign_in.cookies import csrf_token
from serving.sign_in.desk import Desk
from serving.sign_in.sessions import LONGEST, WebSession
from studio import clock, ids
from studio.errors import InvalidRequest, InvalidToken, NotFound, PermissionDenied, StudioError

router = APIRouter(prefix="/auth", tags=["sign-in"])

Reason = Literal["denied", "expired", "refused", "away", "off"]
_MOST_FORM_BYTES = 64 * 1024


class Place(BaseModel):
    """A tenant in which somebody has roles."""

    tenant: str
    roles: list[str]


class Person(BaseModel):
    """Somebody who is signed in here."""

    user_id: str
    name: str | None
    email: str | None
    origin: Literal["oidc", "link"]
    tenant: str | None  # which one they act for; null: none yet, or no role anywhere
    places: list[Place]
    everywhere: list[str]  # operators' roles
    expires_at: datetime
    csrf_token: str  # for the header `x-csrf-token` of whatever may change something


class Session(BaseModel):
    """Whether somebody is signed in in this browser, and how one can be."""

    object: Literal["session"]
    person: Person | None
    provider: bool  # by the OpenID provider
    links: bool  # by a one-time link


class ChosenTenant(BaseModel):
    """Which tenant to act for."""

    model_config = ConfigDict(extra="forbid")

    tenant: Annotated[str, Field(min_length=1, max_length=63)]


class LinkToken(BaseModel):
    """What stands in a one-time link after the `#`."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=1, max_length=200)]


class SignedOut(BaseModel):
    """Signed out here; `go_to` is where the provider signs out, too."""

    go_to: str | None


@router.get("/session", dependencies=[PUBLIC])
async def read_session(request: Request, parts: Parts, response: Response) -> Session:
    """Who is signed in in this browser."""
    response.headers["cache-control"] = "no-store"
    desk = parts.desk
    try:
        session = await _session(request, desk)
    except InvalidToken:
        session = None
        response.headers.append("set-cookie", desk.cookies.no_session())
    return Session(
        object="session",
        person=None if session is None else await _person(request, parts, session),
        provider=desk.flow is not None,
        links=desk.takes_links,
    )


@router.get("/login", dependencies=[PUBLIC], include_in_schema=False)
async def login(parts: Parts, next: str | None = None) -> Response:
    """To the provider's page. What has to be known afterwards goes along in a cookie of this attempt."""
    if parts.desk.flow is None:
        return _to_page(safe_path(next), "off")
    attempt = Attempt.begin(next)
    try:
        where = await parts.desk.flow.where_to_sign_in(attempt)
    except StudioError:
        return _to_page(attempt.return_to, "away")
    answer = _redirect(where)
    answer.headers.append("set-cookie", parts.desk.cookies.attempt(name_of(attempt.state), attempt.cookie, HOLDS_FOR))
    return answer


@router.get("/callback", dependencies=[PUBLIC], include_in_schema=False)
async def callback(
    request: Request, parts: Parts, state: str | None = None, code: str | None = None, error: str | None = None
) -> Response:
    """Back from the provider: the code of this browser's own attempt becomes a session."""
    desk = parts.desk
    name = name_of(state or "")
    attempt = Attempt.of_cookie(desk.cookies.attempt_in(request.scope["headers"], name), state)
    if attempt is None or desk.flow is None:
        # Not begun here, or too long ago. Who is signed in already pressed "back", and needs no error.
        return _to_page(None, "expired") if await _signed_in(request, desk) is None else _redirect("/")
    if code is None:
        answer = _to_page(attempt.return_to, "denied" if error in ("access_denied", "login_required") else "refused")
    else:
        try:
            signed_in = await desk.flow.finish(attempt, code)
            secret = await desk.welcome(signed_in, clock.now())
        except InvalidToken as refused:
            desk.refused(refused)
            answer = _to_page(attempt.return_to, "refused")
        except StudioError:
            answer = _to_page(attempt.return_to, "away")
        else:
            answer = _redirect(attempt.return_to)
            answer.headers.append("set-cookie", desk.cookies.session(secret, LONGEST))
    answer.headers.append("set-cookie", desk.cookies.no_attempt(name))
    return answer


@router.post("/link", dependencies=[PUBLIC], status_code=204)
async def use_link(body: LinkToken, request: Request, parts: Parts) -> Response:
    """Sign in with a one-time link. Its page posts what stands after the `#`, so no preview of the link uses it up."""
    desk = parts.desk
    if not desk.takes_links:
        raise NotFound("One-time links are off here.", way_out="Sign in with your provider.")
    desk.cookies.require_same_origin(request.scope["headers"])
    secret = await desk.welcome_by_link(body.token, clock.now())
    answer = Response(status_code=204)
    answer.headers.append("set-cookie", desk.cookies.session(secret, LONGEST))
    return answer


@router.post("/session/tenant", dependencies=[PUBLIC])
async def choose_tenant(body: ChosenTenant, request: Request, parts: Parts) -> Person:
    """Act for another tenant, in all tabs of this browser."""
    session = await _session(request, parts.desk)
    if session is None:
        raise InvalidToken("You are signed out. Sign in again.", code="session_ended")
    tenant_id = parts.callers.tenant_named(body.tenant)
    if tenant_id is None or body.tenant not in parts.callers.places(session.person):
        raise PermissionDenied(
            f"You have no role in `{body.tenant}`. Choose one of your `places`, or ask its owner for a role."
        )
    await parts.desk.sessions.choose(session, tenant_id)
    chosen = await _session(request, parts.desk)
    assert chosen is not None
    return await _person(request, parts, chosen)


@router.post("/logout", dependencies=[PUBLIC])
async def logout(request: Request, parts: Parts, response: Response) -> SignedOut:
    """Sign out: here at once, and at the provider if the page goes where this says."""
    session = await _signed_in(request, parts.desk)
    response.headers.append("set-cookie", parts.desk.cookies.no_session())
    if session is None:
        return SignedOut(go_to=None)
    id_token = await parts.desk.sessions.end(session)
    flow = parts.desk.flow
    return SignedOut(go_to=None if flow is None else await flow.where_to_sign_out(id_token, "/"))


@router.post("/backchannel-logout", dependencies=[PUBLIC], include_in_schema=False)
async def backchannel_logout(request: Request, parts: Parts) -> Response:
    """The provider says that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0)."""
    flow = parts.desk.flow
    if flow is None:
        raise NotFound("Nobody signs in with a provider here.", way_out="Set STUDIO_OIDC_ISSUER first.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_FORM_BYTES:
            raise InvalidRequest("The logout token is too long.")
    tokens = parse_qs(body.decode("latin-1")).get("logout_token", [])
    if len(tokens) != 1:
        raise InvalidRequest("Send one `logout_token` in a form.", param="logout_token")
    try:
        ended = await flow.people.provider.verify_logout_token(tokens[0], flow.client_id)
    except InvalidToken as error:
        raise InvalidRequest(error.message, param="logout_token") from error  # 400, as the standard has it
    await parts.desk.sessions.end_of_provider(flow.people.provider.issuer, ended.subject, ended.session)
    return Response(status_code=200, headers={"cache-control": "no-store"})


async def _session(request: Request, desk: Desk) -> WebSession | None:
    secret = session_secret(request.headers.get("authorization"))
    return None if secret is None else await desk.sessions.find(secret, clock.now())


async def _signed_in(request: Request, desk: Desk) -> WebSession | None:
    try:
        return await _session(request, desk)
    except InvalidToken:
        return None


async def _person(request: Request, parts: Parts, session: WebSession) -> Person:
    places = parts.callers.places(session.person)
    tenant = session.tenant if session.tenant in places else None
    secret = session_secret(request.headers.get("authorization"))
    assert secret is not None
    return Person(
        user_id=ids.to_wire(ids.USER, session.user_id),
        name=session.person.name,
        email=session.person.email,
        origin="oidc" if session.origin == "oidc" else "link",
        tenant=tenant or (next(iter(places)) if len(places) == 1 else None),
        places=[Place(tenant=slug, roles=sorted(roles)) for slug, roles in sorted(places.items())],
        everywhere=sorted(parts.callers.roles_everywhere(session.person)),
        expires_at=session.expires_at,
        csrf_token=csrf_token(secret),
    )


def _to_page(return_to: str | None, reason: Reason) -> RedirectResponse:
    """The sign-in page in the language of the page that one came from, with the reason in its words."""
    page = return_to or "/"
    language = page.split("/")[1][:2] or "en"
    return _redirect(f"/{language}/signin?{urlencode({'error': reason, 'next': page})}")


def _redirect(where: str) -> RedirectResponse:
    return RedirectResponse(where, 303, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"})
