"""The declarative base and the column vocabulary: each unit of the business has one type, defined here."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, MetaData, Numeric, Text, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

Tokens = Annotated[int, mapped_column(BigInteger)]
Bytes = Annotated[int, mapped_column(BigInteger)]
Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
RecordedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=text("now()"))]
CurrencyCode = Annotated[str, mapped_column(Text)]
PricePerMillion = Annotated[Decimal, mapped_column(Numeric(18, 6))]  # currency units per 1,000,000 tokens
ExactAmount = Annotated[Decimal, mapped_column(Numeric(38, 12))]  # never rounded
InvoiceAmount = Annotated[Decimal, mapped_column(Numeric(18, 2))]  # rounded once, in billing/invoice.py
UuidKey = Annotated[
    UUID, mapped_column(postgresql.UUID(as_uuid=True), primary_key=True, server_default=text("uuidv7()"))
]
Document = Annotated[dict[str, Any], mapped_column(JSONB)]

CURRENCIES = "currency in ('EUR', 'CNY')"
DOCUMENT_KINDS = "kind in ('pdf', 'cii', 'ubl', 'csv', 'json', 'fapiao')"


class Base(DeclarativeBase):
    """Constraint names follow one pattern, so that a migration can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        datetime: DateTime(timezone=True),
        UUID: postgresql.UUID(as_uuid=True),
    }
