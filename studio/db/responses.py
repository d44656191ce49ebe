"""What the Responses API keeps for its callers. Content is sealed (`studio/sealing.py`); no column tells of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, Instant, UuidKey


class StoredResponse(Base):
    """One response. `resp_` + id on the wire; status names are OpenAI's. There is nothing of it but this row."""

    __tablename__ = "responses"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    api_key_id: Mapped[UUID]
    model: Mapped[str]
    status: Mapped[str] = mapped_column(
        CheckConstraint(
            "status in ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')", "status_known"
        )
    )
    background: Mapped[bool]
    previous_response_id: Mapped[UUID | None]  # no foreign key: that one may be deleted or expire
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    heard_at: Mapped[datetime | None]  # of the gateway that runs it in the background
    content: Mapped[bytes] = mapped_column(LargeBinary)  # input items and response object, sealed

    __table_args__ = (
        Index("ix_responses_expires_at", "expires_at"),
        Index("ix_responses_running", "heard_at", postgresql_where=text("status in ('queued', 'in_progress')")),
    )
