"""Blind comparisons of models: which ones in which order, and what a person thought. Nothing of what was said."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, Instant, UuidKey


class Comparison(Base):
    """One. `cmp_` + id on the wire. The order of `models` is drawn by lot: the first is A."""

    __tablename__ = "comparisons"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    api_key_id: Mapped[UUID]
    models: Mapped[list[str]] = mapped_column(
        ARRAY(Text), CheckConstraint("array_length(models, 1) between 2 and 4", "two_to_four_models")
    )
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    verdict: Mapped[str | None] = mapped_column(
        CheckConstraint("verdict in ('A', 'B', 'C', 'D', 'tie', 'none')", "verdict_known")
    )
    voted_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(verdict is null) = (voted_at is null)", "voted_with_verdict"),
        Index("ix_comparisons_tenant_id_expires_at", "tenant_id", "expires_at"),
    )
