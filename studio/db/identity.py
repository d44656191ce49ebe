"""People who sign in with an OpenID provider, and what they may do where."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, RecordedAt, UuidKey


class User(Base):
    """Somebody who has shown a token. Issuer and subject are the identity; mail and name are for people to read."""

    __tablename__ = "users"

    id: Mapped[UuidKey]
    issuer: Mapped[str]
    subject: Mapped[str]
    email: Mapped[str | None]
    name: Mapped[str | None]
    created_at: Mapped[RecordedAt]
    last_seen_at: Mapped[RecordedAt]

    __table_args__ = (UniqueConstraint("issuer", "subject"),)


class Membership(Base):
    """A role of a user in a tenant, or everywhere (`tenant_id` None).

    `claims`: the latest token said so; a record, decided anew by each token. `granted`: an operator said so, and it
    holds until an operator ends it.
    """

    __tablename__ = "memberships"

    id: Mapped[UuidKey]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    role: Mapped[str]
    origin: Mapped[str]
    granted_by: Mapped[str | None]
    created_at: Mapped[RecordedAt]

    __table_args__ = (
        UniqueConstraint("user_id", "tenant_id", "role", "origin", postgresql_nulls_not_distinct=True),
        CheckConstraint("role in ('owner', 'developer', 'finance', 'ops', 'auditor')", "role_known"),
        CheckConstraint("origin in ('claims', 'granted')", "origin_known"),
        CheckConstraint("(origin = 'granted') = (granted_by is not null)", "granted_by_somebody"),
        CheckConstraint(
            "(tenant_id is not null or role in ('ops', 'finance', 'auditor')) and (tenant_id is null or role <> 'ops')",
            "role_has_its_place",
        ),
    )
