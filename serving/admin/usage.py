"""Processing windows of usage: which are sealed and how far each has come. And usage in question."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from billing import quarantine, windows
from billing.quarantine import Decision, Entry
from serving.admin.access import BillingCaller, Transaction
from serving.texts import storable
from studio import clock, ids
from studio.errors import InvalidRequest
from studio.tenants import audit, known_tenant

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
    tenant = known_tenant(session, body.tenant)
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
    tenant_id = known_tenant(session, tenant).id
    return [_view(seal) for seal in windows.seals(session) if seal.key.tenant_id == tenant_id]


class EntryView(BaseModel):
    """Something in quarantine. `tokens` are prompt and completion as they stand; `arrived_tokens` those of the other
    version of a conflict."""

    id: UUID
    at: datetime
    reason: str
    tenant: str | None
    event_id: UUID | None
    model: str | None
    started_at: str | None
    tokens: int | None
    arrived_tokens: int | None
    resolved_at: datetime | None
    decision: str | None
    decided_by: str | None
    decision_reason: str | None


class DecisionBody(BaseModel):
    """`released`: billed as it stands. `discarded`: billed to nobody."""

    model_config = ConfigDict(extra="forbid")

    decision: Decision
    reason: str = Field(min_length=1)


@router.get("/quarantine")
def get_quarantine(
    session: Transaction,
    tenant: str | None = None,
    settled: Annotated[bool, Query(description="also what is settled")] = False,
) -> list[EntryView]:
    """Usage that could not be accepted or rated, oldest first, at most 200 entries."""
    tenant_id = None if tenant is None else known_tenant(session, tenant).id
    return [_entry_view(entry) for entry in quarantine.entries(session, tenant_id=tenant_id, settled=settled)]


@router.post("/quarantine/{entry}/decision")
def post_decision(entry: UUID, body: DecisionBody, caller: BillingCaller, session: Transaction) -> EntryView:
    """Decide what becomes of an entry; 409 where it is settled or where that cannot be decided so."""
    decided = quarantine.decide(
        session, entry, body.decision, by=caller.actor, reason=storable(body.reason, "reason"), now=clock.now()
    )
    return _entry_view(decided)


def _entry_view(entry: Entry) -> EntryView:
    stored = entry.payload.get("stored", entry.payload)
    return EntryView(
        id=entry.id,
        at=entry.at,
        reason=entry.reason,
        tenant=None if entry.tenant_id is None else ids.to_wire(ids.TENANT, entry.tenant_id),
        event_id=entry.event_id,
        model=stored.get("model_id"),
        started_at=stored.get("started_at"),
        tokens=_tokens(stored),
        arrived_tokens=_tokens(entry.payload.get("arrived", {})),
        resolved_at=entry.resolved_at,
        decision=entry.decision,
        decided_by=entry.decided_by,
        decision_reason=entry.decision_reason,
    )


def _tokens(event: Mapping[str, Any]) -> int | None:
    return int(event["prompt_tokens"]) + int(event["completion_tokens"]) if "prompt_tokens" in event else None


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
