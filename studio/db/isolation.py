"""The nightly proof that tenants are isolated, as each of them can download it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, Instant, RecordedAt, UuidKey


class SigningKey(Base):
    """A public key that certificates or receipts were signed with. Kept for ever, so that old ones can be checked."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)  # the beginning of the key's SHA-256
    public_key: Mapped[str]  # PEM
    purpose: Mapped[str] = mapped_column(
        CheckConstraint("purpose in ('certificates', 'receipts')", "purpose_known"), server_default="certificates"
    )
    created_at: Mapped[RecordedAt]


class IsolationCertificate(Base):
    """One night's report for one tenant. `iso_` + id on the wire. Append-only."""

    __tablename__ = "isolation_certificates"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    result: Mapped[str] = mapped_column(CheckConstraint("result in ('passed', 'incomplete', 'failed')", "result_known"))
    began_at: Mapped[Instant]
    ended_at: Mapped[Instant]
    document: Mapped[str]  # JSON; the signature is over exactly these bytes in UTF-8
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    key_id: Mapped[str] = mapped_column(ForeignKey("signing_keys.id"))
