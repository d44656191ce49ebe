"""Who buys and who sells: legal entities, tenants, how each is billed, keys, and the audit log."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, Numeric, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import CURRENCIES, Base, CurrencyCode, Document, InvoiceAmount, RecordedAt, UuidKey


class LegalEntity(Base):
    """A company that issues invoices, with number series of its own. Declared in `catalog/legal_entities.yaml`."""

    __tablename__ = "legal_entities"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    country: Mapped[str]
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    time_zone: Mapped[str]
    invoice_prefix: Mapped[str] = mapped_column(unique=True)
    four_eyes_from: Mapped[InvoiceAmount] = mapped_column(
        CheckConstraint("four_eyes_from >= 0", "four_eyes_from_not_negative"), server_default="0"
    )
    four_eyes_by: Mapped[str] = mapped_column(
        CheckConstraint("four_eyes_by in ('anyone', 'people')", "four_eyes_by_known"), server_default="anyone"
    )
    four_eyes_credit_from: Mapped[InvoiceAmount] = mapped_column(
        CheckConstraint("four_eyes_credit_from >= 0", "four_eyes_credit_from_not_negative"), server_default="10000"
    )
    details: Mapped[Document]  # address, tax ids, register, bank: printed, never computed with
    payment_days: Mapped[int] = mapped_column(
        CheckConstraint("payment_days between 0 and 365", "payment_days_sensible"), server_default="14"
    )
    bank_accounts: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}")  # whose statements are its own


class TaxRate(Base):
    """A dated tax rate with its source. The code only looks up."""

    __tablename__ = "tax_rates"

    id: Mapped[UuidKey]
    country: Mapped[str]
    category: Mapped[str]  # EN 16931 code, such as S
    rate: Mapped[Decimal] = mapped_column(Numeric(6, 4))
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    source: Mapped[str]


class Tenant(Base):
    """A customer."""

    __tablename__ = "tenants"

    id: Mapped[UuidKey]
    slug: Mapped[str] = mapped_column(CheckConstraint("slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'", "slug_form"), unique=True)
    name: Mapped[str]
    created_at: Mapped[RecordedAt]
    closed_at: Mapped[datetime | None]
    closes_on: Mapped[date | None]  # the first day on which it is closed, in its own zone
    is_internal: Mapped[bool] = mapped_column(server_default="false")  # ours: never sealed, so never billed


class TenantBilling(Base):
    """How a tenant is billed over [valid_from, valid_until): entity, currency, zone of its days, printed address.

    A tenant has exactly one row for each day (an exclusion constraint, in the migration).
    """

    __tablename__ = "tenant_billing"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    time_zone: Mapped[str]
    tax_category: Mapped[str | None]  # None: as `tax_treatments` says for seller and buyer
    buyer: Mapped[Document]  # name, address, country, vat_id
    payment_days: Mapped[int | None] = mapped_column(
        CheckConstraint("payment_days between 0 and 365", "payment_days_sensible")
    )  # None: those of the legal entity


class ApiKey(Base):
    """A key by its hash. The text is shown once, at creation."""

    __tablename__ = "api_keys"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    created_at: Mapped[RecordedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    models: Mapped[list[str] | None] = mapped_column(ARRAY(TEXT))  # names as in `/v1/models`; None: all
    endpoints: Mapped[list[str] | None] = mapped_column(ARRAY(TEXT))  # paths; None: all
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))  # stands for this person; nobody has its text
    made_by: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))  # None: an operator did
    own_cache: Mapped[bool] = mapped_column(server_default=text("false"))  # shares no cache with the tenant's others

    __table_args__ = (
        UniqueConstraint("user_id", "tenant_id"),
        CheckConstraint("cardinality(models) > 0", "models_not_empty"),
        CheckConstraint("cardinality(endpoints) > 0", "endpoints_not_empty"),
        CheckConstraint("scopes <@ array['inference', 'usage', 'account', 'keys', 'admin']", "scopes_known"),
    )


class ApiKeyUse(Base):
    """When a key was last used, to the minute. Apart from the keys, so that writing it disturbs nobody."""

    __tablename__ = "api_key_uses"

    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    last_used_at: Mapped[datetime]


class AuditEntry(Base):
    """Who changed what. Append-only."""

    __tablename__ = "audit_log"

    id: Mapped[UuidKey]
    at: Mapped[RecordedAt]
    actor: Mapped[str]  # prefix of the key, `oidc:issuer#subject` of a person, or the name of a job
    action: Mapped[str]
    subject: Mapped[str]
    tenant_id: Mapped[UUID | None]
    details: Mapped[Document]
