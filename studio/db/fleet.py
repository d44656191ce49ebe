"""What runs: desired and observed replicas, how they warmed up, and the engines' own counters."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Numeric, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, RecordedAt, Tokens, UuidKey


class DesiredReplicas(Base):
    """How many replicas a variant should have, and why. Written by the fleet sensor, read by the node agent."""

    __tablename__ = "desired_replicas"

    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), primary_key=True)
    replicas: Mapped[int] = mapped_column(CheckConstraint("replicas >= 0", "not_negative"))
    reason: Mapped[str]
    decided_at: Mapped[datetime]


class Replica(Base):
    """One engine, from start to stop. Rows are kept: usage events name them for ever.

    `attached` replicas are engines somebody else runs. The baselines are the engine's counters after its warm-up
    request, so metered usage = counters - baseline.
    """

    __tablename__ = "replicas"

    id: Mapped[UuidKey]
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), index=True)
    kind: Mapped[str] = mapped_column(CheckConstraint("kind in ('process', 'attached')", "kind_known"))
    state: Mapped[str] = mapped_column(
        CheckConstraint("state in ('starting', 'ready', 'draining', 'stopped', 'failed')", "state_known")
    )
    url: Mapped[str]
    engine_model: Mapped[str]  # the name that the engine itself serves the weights under
    pid: Mapped[int | None]
    reason: Mapped[str | None]
    created_at: Mapped[RecordedAt]
    ready_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]
    baseline_prompt_tokens: Mapped[Tokens] = mapped_column(server_default="0")
    baseline_completion_tokens: Mapped[Tokens] = mapped_column(server_default="0")
    # Of an attached engine; our own run as many requests at once as their variant says.
    max_num_seqs: Mapped[int | None] = mapped_column(CheckConstraint("max_num_seqs > 0", "max_num_seqs_positive"))
    needs_key: Mapped[bool] = mapped_column(server_default="false")


class EnginePods(Base):
    """How a variant's pods are, as our driver in a cluster saw them at their last change. No row: it drives none."""

    __tablename__ = "engine_pods"

    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), primary_key=True)
    outcome: Mapped[str] = mapped_column(
        CheckConstraint(
            "outcome in ('in order', 'scaled', 'busy', 'starting', 'stuck', 'conflict', 'failed')", "outcome_known"
        )
    )
    trouble: Mapped[str | None] = mapped_column(
        CheckConstraint(
            "trouble in ('image', 'configuration', 'weights', 'engine', 'silent', 'room', 'quota', 'refused',"
            " 'deadline', 'drivers', 'scale')",
            "trouble_known",
        )
    )
    said: Mapped[str]  # Kubernetes' own words: they name nodes and registries, so the gateway does not read them
    trouble_since: Mapped[datetime | None]
    unready_since: Mapped[datetime | None]  # fewer pods are ready than should be
    changed_at: Mapped[datetime]


class EngineStart(Base):
    """A start of a variant's pods in a cluster, from the number that asked for them until all were ready, as our driver
    saw it: to a tick. What `Warmup` is to our own processes. Append-only."""

    __tablename__ = "engine_starts"

    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(primary_key=True)
    ready_at: Mapped[datetime] = mapped_column(CheckConstraint("ready_at >= started_at", "ready_after_start"))


AWAY_PATIENCE = timedelta(seconds=60)  # an API server that restarts, or fails now and then, is no news


class ClusterContact(Base):
    """Whether the cluster's API server answers our driver. One row, once it has asked."""

    __tablename__ = "cluster_contact"

    id: Mapped[int] = mapped_column(
        SmallInteger, CheckConstraint("id = 1", "one_row"), primary_key=True, autoincrement=False
    )
    away_since: Mapped[datetime | None]  # None: it answers
    said: Mapped[str]


class EngineKey(Base):
    """The key that an attached engine asks for, sealed. A table of its own: everybody reads `replicas`."""

    __tablename__ = "engine_keys"

    replica_id: Mapped[UUID] = mapped_column(ForeignKey("replicas.id"), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class Warmup(Base):
    """Proof that a replica was warm: how long each stage took. The ETA of a cold model is computed from these."""

    __tablename__ = "warmups"

    id: Mapped[UuidKey]
    replica_id: Mapped[UUID] = mapped_column(ForeignKey("replicas.id"), index=True)
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), index=True)
    started_at: Mapped[datetime]
    weights_seconds: Mapped[Decimal] = mapped_column(Numeric(10, 3))  # fetch and verify
    start_seconds: Mapped[Decimal] = mapped_column(Numeric(10, 3))  # process start to /health 200
    first_token_seconds: Mapped[Decimal] = mapped_column(Numeric(10, 3))  # the real request
    ready_at: Mapped[datetime]


class EngineCounters(Base):
    """An engine's own token totals at an instant, and how many requests it was working on. Append-only.

    With none the totals are exact; of an engine that is never idle they lie within bounds (`billing/engine_totals.py`).
    """

    __tablename__ = "engine_counters"

    replica_id: Mapped[UUID] = mapped_column(ForeignKey("replicas.id"), primary_key=True)
    observed_at: Mapped[datetime] = mapped_column(primary_key=True)
    prompt_tokens: Mapped[Tokens]
    completion_tokens: Mapped[Tokens]
    requests: Mapped[int] = mapped_column(CheckConstraint("requests >= 0", "requests_not_negative"), server_default="0")

    __table_args__ = (
        Index("ix_engine_counters_replica_id_idle", "replica_id", "observed_at", postgresql_where=text("requests = 0")),
    )
