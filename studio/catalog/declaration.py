"""What the catalog files may say: their shapes. Reading and judging them is `reading.py`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from studio import clock
from studio.errors import StudioError
from studio.money import Currency

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$", max_length=63)]
ZoneName = Annotated[str, AfterValidator(lambda name: clock.zone(name).key)]
PricePerMillion = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)]
Unit = Literal["prompt", "cached_prompt", "completion", "embedding"]
ALL_UNITS: tuple[Unit, ...] = get_args(Unit)
UNITS_BY_TASK: dict[str, tuple[Unit, ...]] = {
    "chat": ("prompt", "cached_prompt", "completion"),
    "completion": ("prompt", "cached_prompt", "completion"),
    "embedding": ("embedding",),
}


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class PriceList(_Declared):
    """Prices per 1,000,000 tokens that hold from an instant on, until the next entry of the list (or `valid_until`)."""

    valid_from: AwareDatetime
    valid_until: AwareDatetime | None = None
    prompt: PricePerMillion | None = None
    cached_prompt: PricePerMillion | None = None
    completion: PricePerMillion | None = None
    embedding: PricePerMillion | None = None


class DeclaredVariant(_Declared):
    """One tier of a model."""

    id: Slug
    tier: Literal["base", "fast"]
    context_tokens: int = Field(gt=0)
    max_output_tokens: int | None = Field(None, gt=0)
    weights: Slug
    weights_bytes: int = Field(gt=0)
    gpu_count: int = Field(ge=0)
    max_num_seqs: int = Field(gt=0)
    suggested_replicas: int = Field(ge=0)
    engine_flags: tuple[str, ...] = ()
    engine_env: dict[str, str] = {}
    prices: dict[str, tuple[PriceList, ...]]


class DeclaredModel(_Declared):
    """One file of `catalog/models`."""

    id: Slug
    name: str
    publisher: str
    task: Literal["chat", "completion", "embedding"]
    vision: bool = False
    licence: str
    licence_url: str
    context_tokens: int = Field(gt=0)
    sunset_on: date | None = None
    notice: str | None = None
    variants: tuple[DeclaredVariant, ...] = Field(min_length=1)


class Deployment(_Declared):
    """How many replicas of a variant a site runs, or whose replicas answer for it."""

    variant: str
    replicas: int = Field(0, ge=0)
    served_by: str | None = None


class Card(_Declared):
    """The accelerator of a site."""

    name: str
    memory_bytes: int = Field(gt=0)


class Site(_Declared):
    """One file of `catalog/sites`: what is deployed at this place. Everything else is listed as not deployed."""

    card: Card
    deploy: tuple[Deployment, ...]


class DeclaredLegalEntity(_Declared):
    """A company that issues invoices."""

    id: Slug
    name: str
    country: str = Field(pattern="^[A-Z]{2}$")
    currency: Currency
    time_zone: ZoneName
    invoice_prefix: str = Field(pattern="^[A-Z]{2,8}$")
    details: dict[str, str]


class DeclaredTaxRate(_Declared):
    """A dated tax rate with its source."""

    country: str = Field(pattern="^[A-Z]{2}$")
    category: str
    rate: Decimal = Field(ge=0, lt=1, decimal_places=4)
    valid_from: date
    valid_until: date | None = None
    source: str


class LegalFile(_Declared):
    """`catalog/legal_entities.yaml`."""

    legal_entities: tuple[DeclaredLegalEntity, ...]
    tax_rates: tuple[DeclaredTaxRate, ...]


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
    unit: Unit
    per_million: Decimal
    valid_from: datetime
    valid_until: datetime | None
    file: str
    line: int

    @property
    def key(self) -> tuple[str, Currency, Unit, datetime]:
        """What identifies a row for ever; the amount then never changes."""
        return self.variant_id, self.currency, self.unit, self.valid_from


@dataclass(frozen=True, slots=True)
class Catalog:
    """All files, judged and found right."""

    content_hash: str
    models: tuple[DeclaredModel, ...]
    prices: tuple[PriceRow, ...]
    site: Site
    legal_entities: tuple[DeclaredLegalEntity, ...]
    tax_rates: tuple[DeclaredTaxRate, ...]
