"""What the node agent reads and writes in the database: desired replicas in; replicas, warm-ups and counters out.

Facts are kept in memory until they are written, so an outage of the database delays them and loses none. One node
agent serves one database: a replica row of kind `process` that it does not know is what a dead predecessor left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Delete, Engine, delete, select, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from local.engine_command import EngineSpec
from local.engine_process import EngineMetrics
from studio import clock, ids
from studio.db.catalog import Model, ModelVariant
from studio.db.fleet import DesiredReplicas, EngineCounters, Replica, Warmup
from studio.db.jobs import Adapter, LoadedAdapter
from studio.db.sessions import unit_of_work

_LIVE = ("starting", "ready", "draining")
_ABANDONED = "the node agent that ran it ended"


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    """An adapter that every replica of its variant should have. Validated before its row was written."""

    id: UUID
    variant_id: str
    engine_name: str
    object_prefix: str
    sha256: str


@dataclass(frozen=True, slots=True)
class WarmupTimes:
    """How long each stage from decision to first answer took."""

    started_at: datetime
    weights_seconds: float
    start_seconds: float
    first_token_seconds: float


@dataclass(slots=True, eq=False)
class ReplicaRecord:
    """One replica as it is now, and what of that the database does not know yet."""

    spec: EngineSpec
    url: str
    pid: int
    id: UUID = field(default_factory=ids.uuid7)
    created_at: datetime = field(default_factory=clock.now)
    state: str = "starting"
    reason: str | None = None
    ready_at: datetime | None = None
    stopped_at: datetime | None = None
    baseline: EngineMetrics | None = None
    unwritten: tuple[Insert | Delete, ...] = ()  # rows of other tables that belong to it
    changed: bool = True

    def become_ready(self, baseline: EngineMetrics, times: WarmupTimes) -> None:
        """It has answered a real request; what it counted for that is nobody's usage."""
        self.state, self.ready_at, self.baseline, self.changed = "ready", clock.now(), baseline, True
        warmup = insert(Warmup).values(
            id=ids.uuid7(),
            replica_id=self.id,
            variant_id=self.spec.variant_id,
            started_at=times.started_at,
            weights_seconds=_milliseconds(times.weights_seconds),
            start_seconds=_milliseconds(times.start_seconds),
            first_token_seconds=_milliseconds(times.first_token_seconds),
            ready_at=self.ready_at,
        )
        self.unwritten += (warmup.on_conflict_do_nothing(),)

    def drain(self, reason: str) -> None:
        """No new requests; what runs is finished."""
        self.state, self.reason, self.changed = "draining", reason, True

    def end(self, state: str, reason: str | None = None) -> None:
        """`stopped` or `failed`."""
        self.state, self.stopped_at, self.changed = state, clock.now(), True
        self.reason = reason or self.reason

    def count(self, metrics: EngineMetrics) -> None:
        """Its counters now: exact when nothing runs in it, else bounds of what it has done."""
        self.changed = True
        counters = insert(EngineCounters).values(
            replica_id=self.id,
            observed_at=clock.now(),
            prompt_tokens=metrics.prompt_tokens,
            completion_tokens=metrics.completion_tokens,
            requests=metrics.requests,
        )
        self.unwritten += (counters.on_conflict_do_nothing(),)

    def note_adapter(self, id: UUID, refusal: str | None) -> None:
        """Its engine has loaded an adapter, or will not."""
        self.changed = True
        loaded = insert(LoadedAdapter).values(replica_id=self.id, adapter_id=id, error=refusal)
        self.unwritten += (loaded.on_conflict_do_nothing(),)

    def forget_adapter(self, id: UUID) -> None:
        """Its engine has unloaded an adapter."""
        self.changed = True
        this = (LoadedAdapter.replica_id == self.id, LoadedAdapter.adapter_id == id)
        self.unwritten += (delete(LoadedAdapter).where(*this),)


@dataclass(frozen=True, slots=True)
class ReplicaStore:
    """The tables, as the node agent's role may use them. Blocking: call it in a thread."""

    engine: Engine

    def desired(self) -> dict[EngineSpec, int]:
        """How many replicas of which engine there should be."""
        with unit_of_work(self.engine) as session:
            return {_spec(variant, task): replicas for variant, task, replicas in session.execute(_DESIRED).tuples()}

    def adapters(self) -> list[ServedAdapter]:
        """Every adapter that is served."""
        with unit_of_work(self.engine) as session:
            return [ServedAdapter(*row) for row in session.execute(_ADAPTERS).tuples()]

    def save(self, changed: list[ReplicaRecord], known: list[ReplicaRecord]) -> None:
        """Write what changed, in one transaction; and close what a dead predecessor left open."""
        with unit_of_work(self.engine) as session:
            for record in changed:
                _write(session, record)
            session.execute(
                update(Replica)
                .where(
                    Replica.kind == "process",
                    Replica.state.in_(_LIVE),
                    Replica.id.not_in([record.id for record in known]),
                )
                .values(state="failed", reason=_ABANDONED, stopped_at=clock.now())
            )
            session.execute(delete(LoadedAdapter).where(LoadedAdapter.replica_id.in_(_ENDED)))


_DESIRED = (
    select(ModelVariant, Model.task, DesiredReplicas.replicas)
    .join(Model, Model.id == ModelVariant.model_id)
    .join(DesiredReplicas, DesiredReplicas.variant_id == ModelVariant.id)
    .where(DesiredReplicas.replicas > 0, ModelVariant.retired_at.is_(None))
    .order_by(Model.task == "embedding", ModelVariant.id)  # started in this order: people wait for chat
)

_ADAPTERS = select(Adapter.id, Adapter.variant_id, Adapter.engine_name, Adapter.object_prefix, Adapter.sha256).where(
    Adapter.deleted_at.is_(None)
)
_ENDED = select(Replica.id).where(Replica.state.not_in(_LIVE))


def _spec(variant: ModelVariant, task: str) -> EngineSpec:
    return EngineSpec(
        variant_id=variant.id,
        model_id=variant.model_id,
        weights_id=variant.weights_id,
        task=task,
        context_tokens=variant.context_tokens,
        max_num_seqs=variant.max_num_seqs,
        flags=tuple(variant.engine_flags),
        env=variant.engine_env,
    )


def _write(session: Session, record: ReplicaRecord) -> None:
    facts = {
        "state": record.state,
        "reason": record.reason,
        "ready_at": record.ready_at,
        "stopped_at": record.stopped_at,
        "baseline_prompt_tokens": record.baseline.prompt_tokens if record.baseline else 0,
        "baseline_completion_tokens": record.baseline.completion_tokens if record.baseline else 0,
    }
    identity = {
        "id": record.id,
        "variant_id": record.spec.variant_id,
        "kind": "process",
        "url": record.url,
        "engine_model": record.spec.model_id,
        "pid": record.pid,
        "created_at": record.created_at,
    }
    row = insert(Replica).values(**identity, **facts)
    session.execute(row.on_conflict_do_update(index_elements=[Replica.id], set_=facts))
    for statement in record.unwritten:
        session.execute(statement)


def _milliseconds(seconds: float) -> Decimal:
    return Decimal(round(seconds * 1000)) / 1000
