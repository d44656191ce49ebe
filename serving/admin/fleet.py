"""What runs, and engines that somebody else runs as replicas of ours."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select

from serving.admin.access import Caller, Transaction
from studio import clock, ids
from studio.db.catalog import ModelVariant
from studio.db.fleet import DesiredReplicas, Replica
from studio.errors import Conflict, InvalidRequest, ModelNotFound, NotFound
from studio.tenants import audit

router = APIRouter()

PROBE_SECONDS = 5.0


class AttachedEngine(BaseModel):
    """An OpenAI-compatible engine and the model whose replica it becomes."""

    model_config = ConfigDict(extra="forbid")

    model: str
    url: str
    engine_model: str | None = None  # its own name for the weights; None: asked from the engine


class ReplicaView(BaseModel):
    """One replica."""

    id: str
    model: str
    kind: str
    state: str
    url: str
    reason: str | None
    created_at: datetime
    ready_at: datetime | None


class DesiredView(BaseModel):
    """How many replicas a model should have, how many are ready, and why."""

    model: str
    desired: int
    ready: int
    reason: str
    decided_at: datetime


class FleetReport(BaseModel):
    """Everything that runs or should."""

    desired: list[DesiredView]
    replicas: list[ReplicaView]


@router.get("/fleet")
def get_fleet(session: Transaction) -> FleetReport:
    """Desired and observed replicas; stopped ones are left out."""
    replicas = session.scalars(select(Replica).where(Replica.state != "stopped").order_by(Replica.created_at)).all()
    ready_by_variant = (
        select(Replica.variant_id, func.count()).where(Replica.state == "ready").group_by(Replica.variant_id)
    )
    ready = dict(session.execute(ready_by_variant).tuples().all())
    return FleetReport(
        desired=[
            DesiredView(
                model=row.variant_id,
                desired=row.replicas,
                ready=ready.get(row.variant_id, 0),
                reason=row.reason,
                decided_at=row.decided_at,
            )
            for row in session.scalars(select(DesiredReplicas).order_by(DesiredReplicas.variant_id))
        ],
        replicas=[_view(replica) for replica in replicas],
    )


@router.post("/fleet/replicas", status_code=201)
def post_replica(body: AttachedEngine, caller: Caller, session: Transaction) -> ReplicaView:
    """Attach an engine: it must answer now, and is then routed to and metered like our own."""
    variant = session.get(ModelVariant, body.model)
    if variant is None or variant.retired_at is not None:
        raise ModelNotFound(body.model)
    url = body.url.rstrip("/").removesuffix("/v1")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise InvalidRequest(f"{body.url!r} is no http(s) URL", param="url")
    if session.scalar(select(Replica.id).where(Replica.url == url, Replica.state.in_(("ready", "starting")))):
        raise Conflict(f"{url} is a replica already")
    now = clock.now()
    replica = Replica(
        id=ids.uuid7(),
        # A tier that shares another's replicas is served by those, so an engine attached to it belongs there.
        variant_id=variant.served_by or variant.id,
        kind="attached",
        state="ready",
        url=url,
        engine_model=body.engine_model or _served_model(url),
        created_at=now,
        ready_at=now,
    )
    session.add(replica)
    audit(session, caller.actor, "fleet.attach", body.model, None, {"url": url})
    session.flush()
    return _view(replica)


@router.delete("/fleet/replicas/{replica_id}")
def delete_replica(replica_id: str, caller: Caller, session: Transaction) -> ReplicaView:
    """Detach an engine; requests that run on it finish."""
    try:
        replica = session.get(Replica, ids.from_wire(ids.REPLICA, replica_id))
    except ValueError as error:
        raise InvalidRequest(str(error), param="replica_id") from error
    if replica is None or replica.kind != "attached":
        raise NotFound("there is no attached engine with this id; our own replicas follow the desired number")
    replica.state, replica.stopped_at, replica.reason = "stopped", clock.now(), f"detached by {caller.actor}"
    audit(session, caller.actor, "fleet.detach", replica.variant_id, None, {"url": replica.url})
    session.flush()
    return _view(replica)


def _served_model(url: str) -> str:
    try:
        answer = httpx.get(f"{url}/v1/models", timeout=PROBE_SECONDS, trust_env=False)
        answer.raise_for_status()
        name: str = answer.json()["data"][0]["id"]
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidRequest(f"the engine at {url} did not list its models: {error}", param="url") from error
    return name


def _view(replica: Replica) -> ReplicaView:
    return ReplicaView(
        id=ids.to_wire(ids.REPLICA, replica.id),
        model=replica.variant_id,
        kind=replica.kind,
        state=replica.state,
        url=replica.url,
        reason=replica.reason,
        created_at=replica.created_at,
        ready_at=replica.ready_at,
    )
