"""Processing windows of usage: which are sealed and how far each has come."""

from __future__ import annotations

from datetime import date, datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from billing import windows
from serving.admin.access import BillingCaller, Transaction
from studio import clock
from studio.errors import InvalidRequest
from studio.tenants import audit, find_tenant

router = APIRouter(prefix="/usage")


class SealBody(BaseModel):
    """Seal a tenant's window before the calendar would. `cutoff`: keep the first answer's while asking again."""

    model_config = ConfigDict(extra="forbid")

    tenant: str
    reason: str = Field(min_length=1)
    cutoff: datetime | None = None


class SealView(BaseModel):
    """One seal."""

    window: date
    seal_no: int
    state: str
    events: int
    tokens: int
    sealed_at: datetime
    sealed_by: str
    reason: str


@router.post("/windows/{window}/seals", status_code=201)
def post_seal(window: date, body: SealBody, caller: BillingCaller, session: Transaction) -> SealView:
    """Seal what the window has received and no earlier seal holds; 409 while a source of usage still lags."""
    now = clock.now()
    cutoff = body.cutoff or now
    if cutoff.tzinfo is None:
        raise InvalidRequest("cutoff needs a UTC offset", param="cutoff")
    tenant = find_tenant(session, body.tenant)
    seal = windows.seal(
        session,
        window_day=window,
        tenant_id=tenant.id,
        by=caller.actor,
        reason=body.reason,
        cutoff=cutoff,
        now=now,
    )
    audit(session, caller.actor, "usage.seal", str(seal.key), tenant.id, {"reason": body.reason})
    return _view(seal)


@router.get("/windows")
def get_windows(tenant: str, session: Transaction) -> list[SealView]:
    """All seals of a tenant, oldest first."""
    tenant_id = find_tenant(session, tenant).id
    return [_view(seal) for seal in windows.seals(session) if seal.key.tenant_id == tenant_id]


def _view(seal: windows.Seal) -> SealView:
    return SealView(
        window=seal.key.window_day,
        seal_no=seal.key.seal_no,
        state=seal.state,
        events=seal.events,
        tokens=seal.tokens,
        sealed_at=seal.sealed_at,
        sealed_by=seal.sealed_by,
        reason=seal.reason,
    )
