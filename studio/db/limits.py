"""Limits of tenants, keys and models. What they mean and how they are counted is `serving/limits`."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, RecordedAt, Tokens, UuidKey


class Limit(Base):
    """What one tenant, or one of its keys, may ask for, of all models or of one. All rows that match must allow."""

    __tablename__ = "limits"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"), index=True)  # None: all of the tenant
    variant_id: Mapped[str | None] = mapped_column(ForeignKey("model_variants.id"))  # None: all models together
    requests_per_second: Mapped[int | None]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[Tokens | None]
    concurrent_requests: Mapped[int | None]
    created_at: Mapped[RecordedAt]

    __table_args__ = (
        UniqueConstraint("tenant_id", "api_key_id", "variant_id", postgresql_nulls_not_distinct=True),
        CheckConstraint("requests_per_second > 0", "requests_per_second_positive"),
        CheckConstraint("requests_per_minute > 0", "requests_per_minute_positive"),
        CheckConstraint("tokens_per_minute between 1 and 100000000000", "tokens_per_minute_in_range"),
        CheckConstraint("concurrent_requests > 0", "concurrent_requests_positive"),
        CheckConstraint(
            "num_nonnulls(requests_per_second, requests_per_minute, tokens_per_minute, concurrent_requests) > 0",
            "limits_something",
        ),
    )
