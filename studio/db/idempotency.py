"""Answers to requests that carried an Idempotency-Key. Auditors and operators cannot read this table."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, RecordedAt


class IdempotentAnswer(Base):
    """One key of one API key: who runs its request, or what the answer was, sealed by `studio/sealing.py`."""

    __tablename__ = "idempotent_answers"

    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)  # SHA-256: clients put anything into it
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)  # SHA-256 of path and body
    request_id: Mapped[UUID]  # of the usage event, whoever runs the request in the end
    claim_id: Mapped[UUID | None]  # of the run that is to answer it
    lease_until: Mapped[datetime]  # after which that run is dead
    content: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[RecordedAt]
    expires_at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (CheckConstraint("(claim_id is null) = (content is not null)", "runs_or_is_kept"),)
