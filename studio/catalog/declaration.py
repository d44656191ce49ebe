"""What the catalog files may say: their shapes. What they come to is `judged.py`."""

from __future__ import annotations

import re
from datetime import date, time
from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from studio import clock
from studio.money import Currency, RoundingMode
from studio.sold_units import Unit


def file_name_of(model_id: str) -> str:
    """The id of a model or variant in the name of a file: `vendor/name` is `vendor--name`, which is no id itself."""
    return model_id.replace("/", "--")


def _wall_clock_time(written: object) -> str:
    if isinstance(written, str) and re.fullmatch(r"\d\d:\d\d", written):
        return written
    raise ValueError('write the time as "08:00", in quotes: YAML takes a bare one for a number')


def _keeps_silent(flag: str) -> str:
    if flag.startswith("--enable-log-"):
        raise ValueError("it writes what callers say into the engine's log, and logs hold no prompts")
    return flag


_SLUG = r"[a-z0-9]+([.-][a-z0-9]+)*"
Slug = Annotated[str, Field(pattern=f"^{_SLUG}$", max_length=63)]
ModelId = Annotated[
    str, Field(pattern=f"^{_SLUG}(/{_SLUG})?$", max_length=63)
]  # what callers write: `name`, `vendor/name`
ZoneName = Annotated[str, AfterValidator(lambda name: clock.zone(name).key)]
EngineFlag = Annotated[str, AfterValidator(_keeps_silent)]
WallClockTime = Annotated[time, BeforeValidator(_wall_clock_time)]
PricePerMillion = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DeclaredTier(_Declared):
    """What 1,000,000 tokens cost above so many of a tenant's month."""

    from_tokens: int = Field(gt=0)
    per_million: PricePerMillion


class PriceList(_Declared):
    """Prices per 1,000,000 tokens that hold from an instant on, until the next entry of the list (or `valid_until`)."""

    valid_from: AwareDatetime
    valid_until: AwareDatetime | None = None
    prompt: PricePerMillion | None = None
    cached_prompt: PricePerMillion | None = None
    completion: PricePerMillion | None = None
    embedding: PricePerMillion | None = None
    reused: PricePerMillion | None = None  # absent: answers of this variant are not cached
    training: PricePerMillion | None = None  # of variants that can be fine-tuned
    tiers: dict[Unit, tuple[DeclaredTier, ...]] = {}  # cheaper above a volume of the month; batches at half of it


class FirstTokenTarget(_Declared):
    """What a fast tier promises: the first token within so many milliseconds, for prompts of at most so many tokens.

    Counted from when the request is whole and an engine is ready. A request that missed it pays the base price.
    """

    milliseconds: int = Field(gt=0)
    up_to_prompt_tokens: int | None = Field(None, gt=0)


class DeclaredVariant(_Declared):
    """One tier of a model."""

    id: ModelId
    tier: Literal["base", "fast"]
    context_tokens: int = Field(gt=0)
    max_output_tokens: int | None = Field(None, gt=0)
    weights: Slug
    weights_bytes: int = Field(gt=0)
    gpu_count: int = Field(ge=0)
    max_num_seqs: int = Field(gt=0)
    suggested_replicas: int = Field(ge=0)
    calendar: Slug | None = None  # None: open around the clock
    closed_replicas: int = Field(0, ge=0)
    engine_flags: tuple[EngineFlag, ...] = ()
    engine_env: dict[str, str] = {}
    first_token_target: FirstTokenTarget | None = None
    prices: dict[str, tuple[PriceList, ...]]


class DeclaredModel(_Declared):
    """One file of `catalog/models`."""

    id: ModelId
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


class DeclaredOverride(_Declared):
    """The site's standing word against a calendar. `open`: as many replicas as when open."""

    variant: str
    replicas: Annotated[int, Field(ge=0)] | Literal["open"]
    reason: str = Field(min_length=1)


class TenantShare(_Declared):
    """The most that a tenant's own pods may take of a cluster, all together."""

    cards: int = Field(0, ge=0)
    cpus: int = Field(4, ge=1)
    memory_gib: int = Field(16, ge=1)
    storage_gib: int = Field(5, ge=0, le=5)  # what is larger belongs into S3
    claims: int = Field(2, ge=0)
    jobs: int = Field(4, ge=0)
    pods: int = Field(10, ge=1)


class ClusterDoor(_Declared):
    """Where tenants' pods may go: a namespace of the cluster, or an address outside."""

    namespace: Slug | None = None
    cidr: Annotated[str, AfterValidator(lambda written: str(ip_network(written)))] | None = None
    port: int = Field(gt=0, le=65535)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.namespace is None) == (self.cidr is None):
            raise ValueError("name either a namespace or a cidr")
        return self


class DeclaredTraining(_Declared):
    """How fine-tunes train in a cluster: as Jobs of one namespace (k8s/charts/training makes what they need there)."""

    namespace: Slug = "training"
    image: str = Field(pattern=r"^[^@\s]+@sha256:[0-9a-f]{64}$")  # k8s/images/trainer.Containerfile
    weights_claim: Slug = "training-weights"  # of the bases, on the node's own disk
    credentials: Slug = "training-s3"  # a Secret with the keys `s3-access-key` and `s3-secret-key`
    cards: int = Field(1, ge=0)
    cpus: int = Field(8, ge=1)
    memory_gib: int = Field(64, ge=1)
    scratch_gib: int = Field(50, ge=1)
    hours_most: int = Field(24, ge=1)  # of one attempt, its wait for a card included
    kept_hours: int = Field(24, ge=1)  # so long its log can be read; with none it could go before its run has looked
    priority_class: Slug | None = "studio-training"
    node_selector: dict[str, str] = {"studio.xpulink.ai/role": "training"}
    tolerations: tuple[dict[str, str], ...] = ()
    host_groups: tuple[int, ...] = ()  # numbers of `video` and `render` on the nodes
    queue: Slug | None = None  # a LocalQueue of Kueue; None: Kubernetes alone decides


class DeclaredCluster(_Declared):
    """The Kubernetes cluster of a site."""

    gpu_resource: str = "metax-tech.com/gpu"
    pod_security_version: str = Field("v1.31", pattern=r"^(latest|v1\.\d+)$")
    platform: Slug = "studio"  # namespace of gateway and Dagster
    engines: Slug = "engines"  # namespace of the engines' releases
    nodes: Slug = "monitoring-nodes"  # that of what runs on each node: the monitoring chart's `nodes.namespace`
    gateway: ClusterDoor
    s3: ClusterDoor
    tenant: TenantShare = TenantShare()  # of every tenant that is not named below
    tenants: dict[Slug, TenantShare] = {}
    training: DeclaredTraining | None = None  # None: fine-tunes train in a process beside their run


class DeclaredCostRate(_Declared):
    """What this site pays from an instant on, until the next entry. A rate that is not known is left out, never 0."""

    valid_from: AwareDatetime
    eur_per_kwh: Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)] | None = None
    eur_per_card_hour: Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)] | None = None
    source: str = Field(min_length=1)


class Site(_Declared):
    """One file of `catalog/sites`: what is deployed at this place. Everything else is listed as not deployed."""

    card: Card
    deploy: tuple[Deployment, ...]
    overrides: tuple[DeclaredOverride, ...] = ()
    cluster: DeclaredCluster | None = None  # None: one machine without Kubernetes
    costs: tuple[DeclaredCostRate, ...] = ()
    first_token_ms_p50: dict[ModelId, Annotated[int, Field(gt=0)]] = {}  # by variant: what the monthly report must find


class DeclaredHours(_Declared):
    """Open over [opens, closes) on some days of the week."""

    days: tuple[Weekday, ...] = Field(min_length=1)
    opens: WallClockTime
    closes: WallClockTime


class DeclaredHoliday(_Declared):
    """A civil day on which a calendar is closed."""

    day: date
    name: str = Field(min_length=1)


class DeclaredCalendar(_Declared):
    """Opening hours in the wall-clock time of one zone."""

    id: Slug
    time_zone: ZoneName
    prewarm_minutes: int = Field(ge=0, le=240)
    hours: tuple[DeclaredHours, ...] = Field(min_length=1)
    holidays: tuple[DeclaredHoliday, ...] = ()


class CalendarFile(_Declared):
    """`catalog/calendars.yaml`. A catalog whose models are all open around the clock needs none."""

    calendars: tuple[DeclaredCalendar, ...] = ()


class DeclaredLegalEntity(_Declared):
    """A company that issues invoices."""

    id: Slug
    name: str
    country: str = Field(pattern="^[A-Z]{2}$")
    currency: Annotated[Currency, BeforeValidator(Currency.parse)]
    time_zone: ZoneName
    invoice_prefix: str = Field(pattern="^[A-Z]{2,8}$")
    # From which gross total on, in its own currency, it takes two persons. Another currency always does.
    four_eyes_from: Decimal = Field(Decimal(0), ge=0, decimal_places=2)
    four_eyes_by: Literal["anyone", "people"] = "anyone"  # `people`: keys neither review nor approve
    four_eyes_credit_from: Decimal = Field(Decimal(10_000), ge=0, decimal_places=2)  # a lot of credit
    details: dict[str, str]
    payment_days: int = Field(14, ge=0, le=365)  # unless a tenant has its own
    bank_accounts: list[Annotated[str, Field(pattern="^[A-Z0-9-]{5,34}$")]] = []  # IBANs or numbers, without spaces


class DeclaredTaxRate(_Declared):
    """A dated tax rate with its source."""

    country: str = Field(pattern="^[A-Z]{2}$")
    category: str
    rate: Decimal = Field(ge=0, lt=1, decimal_places=4)
    valid_from: date
    valid_until: date | None = None
    source: str


class DeclaredTaxTreatment(_Declared):
    """Which category the supplies of a country's sellers have for buyers of an area, and the words that it needs."""

    seller_country: str = Field(pattern="^[A-Z]{2}$")
    buyer_area: str = Field(pattern=r"^([A-Z]{2}|\*)$")  # a country, EU, or * for the rest
    category: Literal["S", "AE", "G", "O"]
    exemption_code: str | None = None
    wording: dict[Literal["en", "de", "zh"], str] = {}
    valid_from: date
    valid_until: date | None = None
    source: str


class DeclaredFxRate(_Declared):
    """A month's average as the finance ministry published it: units of `quote` for one EUR."""

    quote: Currency
    month: date
    rate: Decimal = Field(gt=0, decimal_places=4)
    document: str = Field(min_length=1)  # where it was published


class LegalFile(_Declared):
    """`catalog/legal_entities.yaml`."""

    legal_entities: tuple[DeclaredLegalEntity, ...]
    tax_rates: tuple[DeclaredTaxRate, ...]
    tax_treatments: tuple[DeclaredTaxTreatment, ...]
    fx_rates: tuple[DeclaredFxRate, ...] = ()


class DeclaredRounding(_Declared):
    """How a list's invoices are rounded, from a month on."""

    valid_from: date
    mode: RoundingMode


class StoragePrice(_Declared):
    """What a gigabyte kept for a day costs from an instant on, until the next entry of the list (or `valid_until`)."""

    valid_from: AwareDatetime
    valid_until: AwareDatetime | None = None
    gigabyte_day: PricePerMillion


class GpuHourPrice(_Declared):
    """What a card that is reserved for one tenant costs by the hour, from an instant on, until the next entry."""

    valid_from: AwareDatetime
    valid_until: AwareDatetime | None = None
    gpu_hour: PricePerMillion


class DeclaredPriceList(_Declared):
    """What of a list is no model's. Without `storage` it sells none, and storage is kept for nothing; without
    `gpu_hour` cards are reserved only for tenants with a price of their own."""

    rounding: tuple[DeclaredRounding, ...] = ()
    storage: tuple[StoragePrice, ...] = ()
    gpu_hour: tuple[GpuHourPrice, ...] = ()


class PriceListFile(_Declared):
    """`catalog/price_lists.yaml`, by currency. A catalog without it rounds half up and sells no storage."""

    price_lists: dict[str, DeclaredPriceList] = {}
