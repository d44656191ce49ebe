"""What runs, and engines that somebody else runs as replicas of ours."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from serving.admin.access import Caller, Transaction
from serving.fleet import engine_keys
from serving.fleet.attaching import Metering, look_at
from studio import clock, ids
from studio.db.catalog import Model, ModelVariant
from studio.db.fleet import ClusterContact, DesiredReplicas, EngineKey, EnginePods, EngineStart, Replica
from studio.errors import Conflict, InvalidRequest, ModelNotFound, NotFound
from studio.sealing import seal
from studio.tenants import audit

router = APIRouter()

STARTS_LOOKED_AT = 1000  # some months of a fleet's mornings


class AttachedEngine(BaseModel):
    """An OpenAI-compatible engine and the model whose replica it becomes."""

    model_config = ConfigDict(extra="forbid")

    model: str
    url: str
    engine_model: str | None = None  # its own name for the weights; None: the first that it lists
    engine_key: SecretStr | None = Field(None, min_length=1, max_length=4096)  # sent as `Authorization: Bearer`
    max_num_seqs: int | None = Field(None, gt=0, lt=2**31)  # requests that it runs at once; None: never full for us


class ReplicaView(BaseModel):
    """One replica."""

    id: str
    model: str
    kind: str
    state: str
    url: str
    has_key: bool
    max_num_seqs: int | None
    reason: str | None
    created_at: datetime
    ready_at: datetime | None


class AttachedView(ReplicaView):
    """One that has just been attached, and how it will be metered: `running` by what it tells with each token of a
    stream; `end` by what it tells at a stream's end, to which it is heard though its caller has left; `whole` by each
    answer."""

    metering: Metering


class DesiredView(BaseModel):
    """How many replicas a model should have, how many are ready, and why."""

    model: str
    desired: int
    ready: int
    reason: str
    decided_at: datetime


class StartsView(BaseModel):
    """How long a model's last starts in a cluster took, the newest first. `k8s/engine_values.py` reads it."""

    model: str
    seconds: list[float]


class PodsView(BaseModel):
    """How the pods of a model in a cluster are, and why, in Kubernetes' own words. Callers see `state_reason`."""

    model: str
    state: str
    trouble: str | None
    said: str
    since: datetime | None  # of the trouble, or of the start
    changed_at: datetime


class FleetReport(BaseModel):
    """Everything that runs or should."""

    desired: list[DesiredView]
    replicas: list[ReplicaView]
    pods: list[PodsView]
    cluster_away_since: datetime | None  # its API server does not answer our driver; null: it does, or there is none
    starts: list[StartsView]


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
        pods=[
            PodsView(
                model=row.variant_id,
                state=row.outcome,
                trouble=row.trouble,
                said=row.said,
                since=row.trouble_since or row.unready_since,
                changed_at=row.changed_at,
            )
            for row in session.scalars(select(EnginePods).order_by(EnginePods.variant_id))
        ],
        cluster_away_since=session.scalar(select(ClusterContact.away_since)),
        starts=_starts(session),
    )


@router.post("/fleet/replicas", status_code=201)
def post_replica(body: AttachedEngine, caller: Caller, session: Transaction) -> AttachedView:
    """Attach an engine: it must answer now so that it can be metered, and is then routed to like our own."""
    variant = session.get(ModelVariant, body.model)
    if variant is None or variant.retired_at is not None:
        raise ModelNotFound(body.model)
    model = session.get_one(Model, variant.model_id)
    url = _base_url(body.url)
    key = _bearer_key(body.engine_key)
    if session.scalar(select(Replica.id).where(Replica.url == url, Replica.state.in_(("ready", "starting")))):
        raise Conflict(f"{url} is a replica already")
    found = look_at(url, key, body.engine_model, model.task)
    now = clock.now()
    replica = Replica(
        id=ids.uuid7(),
        # A tier that shares another's replicas is served by those, so an engine attached to it belongs there.
        variant_id=variant.served_by or variant.id,
        kind="attached",
        state="ready",
        url=url,
        engine_model=found.engine_model,
        created_at=now,
        ready_at=now,
        max_num_seqs=body.max_num_seqs,
        needs_key=key is not None,
    )
    session.add(replica)
    if key is not None:
        session.flush()
        session.add(EngineKey(replica_id=replica.id, sealed=engine_keys.close(seal(), replica.id, key)))
    audit(session, caller.actor, "fleet.attach", body.model, None, {"url": url, "has_key": key is not None})
    session.flush()
    return AttachedView(metering=found.metering, **_view(replica).model_dump())


@router.delete("/fleet/replicas/{replica_id}")
def delete_replica(replica_id: str, caller: Caller, session: Transaction) -> ReplicaView:
    """Detach an engine; requests that run on it finish."""
    try:
        replica = session.get(Replica, ids.from_wire(ids.REPLICA, replica_id))
    except ValueError as error:
        raise InvalidRequest(str(error), param="replica_id") from error
    if replica is None or replica.kind != "attached":
        raise NotFound(
            "there is no attached engine with this id; our own replicas follow the desired number",
            way_out="`GET /admin/v1/fleet` lists the replicas.",
        )
    replica.state, replica.stopped_at, replica.reason = "stopped", clock.now(), f"detached by {caller.actor}"
    session.execute(delete(EngineKey).where(EngineKey.replica_id == replica.id))
    audit(session, caller.actor, "fleet.detach", replica.variant_id, None, {"url": replica.url})
    session.flush()
    return _view(replica)


def _starts(session: Session) -> list[StartsView]:
    started = select(EngineStart).order_by(EngineStart.ready_at.desc())
    by_model: dict[str, list[float]] = {}
    for one in session.scalars(started.limit(STARTS_LOOKED_AT)):
        by_model.setdefault(one.variant_id, []).append((one.ready_at - one.started_at).total_seconds())
    return [StartsView(model=model, seconds=seconds) for model, seconds in sorted(by_model.items())]


def _base_url(written: str) -> str:
    url = written.rstrip("/").removesuffix("/v1")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"{written!r} is no http(s) URL", param="url")
    if parts.username or parts.password:
        # A replica's URL is shown to operators and written to logs.
        raise InvalidRequest("a URL must not hold a password: give the engine's key as `engine_key`", param="url")
    return url


def _bearer_key(given: SecretStr | None) -> str | None:
    if given is None:
        return None
    key = given.get_secret_value()
    if not all("!" <= character <= "~" for character in key):
        raise InvalidRequest("an engine's key is one word of visible ASCII characters", param="engine_key")
    return key


def _view(replica: Replica) -> ReplicaView:
    return ReplicaView(
        id=ids.to_wire(ids.REPLICA, replica.id),
        model=replica.variant_id,
        kind=replica.kind,
        state=replica.state,
        url=replica.url,
        has_key=replica.needs_key,
        max_num_seqs=replica.max_num_seqs,
        reason=replica.reason,
        created_at=replica.created_at,
        ready_at=replica.ready_at,
    )
