"""People in browsers: their sessions, and links that sign somebody in once."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from studio.db.base import Base, Instant, RecordedAt, UuidKey


class WebSession(Base):
    """One browser in which somebody is signed in, until the earliest of `idle_until`, `expires_at` and `ended_at`.

    The cookie's text is kept nowhere, only its SHA-256. `tenants`, `roles` and `everywhere` are what the provider's
    token said at sign-in (or the link); what operators grant beside it holds as for tokens.
    """

    __tablename__ = "web_sessions"

    id: Mapped[UuidKey]
    token_hash: Mapped[bytes]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    origin: Mapped[str]
    tenants: Mapped[list[str]] = mapped_column(ARRAY(Text))  # slugs, known here or not
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))  # in those tenants
    everywhere: Mapped[list[str]] = mapped_column(ARRAY(Text))
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))  # which one was chosen
    provider_session: Mapped[str | None]  # `sid` of the provider, which it names when it ends
    id_token: Mapped[bytes | None]  # sealed; the provider asks for it when somebody signs out
    created_at: Mapped[RecordedAt]
    idle_until: Mapped[Instant]
    expires_at: Mapped[Instant]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("token_hash"),
        CheckConstraint("origin in ('oidc', 'link')", "origin_known"),
        CheckConstraint("octet_length(token_hash) = 32", "hash_is_sha256"),
        CheckConstraint("expires_at <= created_at + interval '30 days'", "ends"),
    )


class SigninLink(Base):
    """Signs somebody in once, with these roles. For a machine without an OpenID provider."""

    __tablename__ = "signin_links"

    id: Mapped[UuidKey]
    token_hash: Mapped[bytes]
    name: Mapped[str]
    tenants: Mapped[list[str]] = mapped_column(ARRAY(Text))
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    everywhere: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_by: Mapped[str]
    created_at: Mapped[RecordedAt]
    expires_at: Mapped[Instant]
    used_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("token_hash"),
        CheckConstraint("octet_length(token_hash) = 32", "hash_is_sha256"),
        CheckConstraint("expires_at <= created_at + interval '1 hour'", "short_lived"),
    )
