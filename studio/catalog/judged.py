"""What the catalog files come to once `reading.py` has judged them: one catalog, or what is wrong and where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from studio.catalog.declaration import (
    DeclaredCalendar,
    DeclaredFxRate,
    DeclaredLegalEntity,
    DeclaredModel,
    DeclaredTaxRate,
    DeclaredTaxTreatment,
    Site,
)
from studio.errors import StudioError
from studio.money import Currency, RoundingMode
from studio.sold_units import SoldUnit


@dataclass(frozen=True, slots=True)
class RoundingRow:
    """How the invoices of a list are rounded from a month on, and where it was declared."""

    currency: Currency
    valid_from: date
    mode: RoundingMode
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, where a person can go and mend it."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class CatalogInvalid(StudioError):
    """The catalog files cannot be applied; nothing was changed."""

    status, type, default_code = 400, "invalid_request_error", "catalog_invalid"

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("the catalog was not changed:\n" + "\n".join(map(str, findings)))
        self.findings = findings


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One effective-dated price over [valid_from, valid_until), and where it was declared."""

    variant_id: str
    currency: Currency
    unit: SoldUnit
    per_million: Decimal
    valid_from: datetime
    valid_until: datetime | None
    file: str
    line: int
    tiers: tuple[tuple[int, Decimal], ...] = ()  # tokens of a month, and the price above them

    @property
    def key(self) -> tuple[str, Currency, SoldUnit, datetime]:
        """What identifies a row for ever; the amount then never changes."""
        return self.variant_id, self.currency, self.unit, self.valid_from


@dataclass(frozen=True, slots=True)
class Catalog:
    """All files, judged and found right."""

    content_hash: str
    models: tuple[DeclaredModel, ...]
    prices: tuple[PriceRow, ...]
    rounding: tuple[RoundingRow, ...]
    site: Site
    calendars: tuple[DeclaredCalendar, ...]
    legal_entities: tuple[DeclaredLegalEntity, ...]
    tax_rates: tuple[DeclaredTaxRate, ...]
    tax_treatments: tuple[DeclaredTaxTreatment, ...]
    fx_rates: tuple[DeclaredFxRate, ...]
