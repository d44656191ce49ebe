"""Apply a catalog to the tables, whole or not at all. Running it again changes nothing.

Prices are append-only: a declared amount that differs from the stored row of the same start is refused, and a new row
may not begin in the past once the variant has a price, because usage may have been rated with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio import clock, gpu_usage, ids, storage_usage
from studio.catalog.declaration import Site
from studio.catalog.hours_sync import remove_calendars, write_calendars, write_overrides
from studio.catalog.judged import Catalog, CatalogInvalid, Finding, PriceRow, RoundingRow
from studio.catalog.reading import read_catalog
from studio.db.catalog import CatalogSync, Model, ModelVariant, Price, PriceTier, RoundingOfList
from studio.db.documents import FxRate, TaxTreatment
from studio.db.observation import CostRate
from studio.db.tenancy import LegalEntity, TaxRate


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a synchronisation did."""

    content_hash: str
    models: int
    variants: int
    prices_added: int
    prices_ended: int
    retired: tuple[str, ...]


def last_synced_hash(session: Session) -> str | None:
    """The content hash of the newest synchronisation, None before the first."""
    return session.scalar(select(CatalogSync.content_hash).order_by(CatalogSync.synced_at.desc()).limit(1))


def sync_catalog(session: Session, folder: Path, site: str) -> SyncReport:
    """Read, judge and apply the files of `folder`. CatalogInvalid carries all findings and leaves the tables alone."""
    catalog = read_catalog(folder, site)
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext("catalog_sync"))))
    now = clock.now()
    _write_legal(session, catalog)
    write_calendars(session, catalog.calendars)
    retired = _write_models(session, catalog, now)
    remove_calendars(session, catalog.calendars)
    write_overrides(session, catalog.site, now)
    _write_costs(session, catalog.site)
    _write_product(session, storage_usage.PRODUCT, "Storage")
    _write_product(session, gpu_usage.PRODUCT, "GPU")
    _write_rounding(session, catalog.rounding, now)
    added, ended = _write_prices(session, catalog.prices, now)
    variants = sum(len(model.variants) for model in catalog.models)
    session.add(
        CatalogSync(
            content_hash=catalog.content_hash, models=len(catalog.models), variants=variants, prices=len(catalog.prices)
        )
    )
    return SyncReport(catalog.content_hash, len(catalog.models), variants, added, ended, retired)


def _write_models(session: Session, catalog: Catalog, now: datetime) -> tuple[str, ...]:
    deployments = {entry.variant: entry for entry in catalog.site.deploy}
    models, variants = [], []
    for model in catalog.models:
        models.append(model.model_dump(exclude={"variants"}) | {"retired_at": None})
        for variant in model.variants:
            entry, target = deployments.get(variant.id), variant.first_token_target
            variants.append(
                variant.model_dump(exclude={"weights", "prices", "calendar", "first_token_target"})
                | {
                    "model_id": model.id,
                    "weights_id": variant.weights,
                    "calendar_id": variant.calendar,
                    "engine_flags": list(variant.engine_flags),
                    "first_token_target_ms": target and target.milliseconds,
                    "first_token_target_prompt_tokens": target and target.up_to_prompt_tokens,
                    "deployed": entry is not None,
                    "site_replicas": entry.replicas if entry else 0,
                    "served_by": entry.served_by if entry else None,
                    "retired_at": None,
                }
            )
    # Variants point at each other by served_by; written in two steps so that the order does not matter.
    _upsert(session, Model, models, key="id")
    _upsert(session, ModelVariant, [row | {"served_by": None} for row in variants], key="id")
    for row in variants:
        if row["served_by"] is not None:
            session.execute(update(ModelVariant).where(ModelVariant.id == row["id"]).values(served_by=row["served_by"]))
    declared = [row["id"] for row in variants]
    gone = session.scalars(
        update(ModelVariant)
        .where(ModelVariant.id.not_in(declared), ModelVariant.retired_at.is_(None))
        .values(retired_at=now, deployed=False, site_replicas=0, served_by=None, calendar_id=None)
        .returning(ModelVariant.id)
    ).all()
    session.execute(
        update(Model)
        .where(Model.id.not_in([row["id"] for row in models]), Model.retired_at.is_(None))
        .values(retired_at=now)
    )
    return tuple(gone)


def _write_product(session: Session, id: str, name: str) -> None:
    """What prices, usage and invoices of storage or reserved cards name, whether a list or only a tenant's own price
    sells them. Retired from the start: it is listed and served nowhere."""
    text = {"name": name, "publisher": "", "licence": "", "licence_url": ""}
    now = clock.now()
    model = {"id": id, "task": id, "vision": False, "context_tokens": 0, "retired_at": now, **text}
    variant = {
        "id": id, "model_id": id, "tier": "base", "context_tokens": 0, "weights_id": "", "weights_bytes": 0,
        "gpu_count": 0, "max_num_seqs": 0, "suggested_replicas": 0, "engine_flags": [], "engine_env": {},
        "deployed": False, "site_replicas": 0, "retired_at": now,
    }  # fmt: skip
    session.execute(insert(Model).values(model).on_conflict_do_nothing())
    session.execute(insert(ModelVariant).values(variant).on_conflict_do_nothing())


def _write_rounding(session: Session, declared: tuple[RoundingRow, ...], now: datetime) -> None:
    """As prices: a mode of a month never changes, and none is added where invoices may have been made already."""
    stored = {(row.currency, row.valid_from): row.mode for row in session.scalars(select(RoundingOfList))}
    listed = {currency for currency, _ in stored}
    findings = []
    for row in declared:
        mode = stored.get((row.currency, row.valid_from))
        what = f"the rounding of {row.currency} invoices from {row.valid_from}"
        if mode is None and row.currency in listed and row.valid_from <= now.date():
            findings.append(Finding(row.file, row.line, f"{what} begins in the past; invoices may have been made"))
        elif mode is None:
            session.add(RoundingOfList(currency=row.currency, valid_from=row.valid_from, mode=row.mode))
        elif mode != row.mode:
            findings.append(
                Finding(row.file, row.line, f"{what} is {mode} and never changes; add an entry of a later month")
            )
    if findings:
        raise CatalogInvalid(findings)
    session.flush()


def _write_legal(session: Session, catalog: Catalog) -> None:
    _upsert(session, LegalEntity, [entity.model_dump() for entity in catalog.legal_entities], key="id")
    known = {(row.country, row.category, row.valid_from) for row in session.scalars(select(TaxRate))}
    for rate in catalog.tax_rates:
        if (rate.country, rate.category, rate.valid_from) not in known:
            session.add(TaxRate(**rate.model_dump()))
    treatments = {
        (row.seller_country, row.buyer_area, row.valid_from): row for row in session.scalars(select(TaxTreatment))
    }
    for treatment in catalog.tax_treatments:
        row = treatments.get((treatment.seller_country, treatment.buyer_area, treatment.valid_from))
        if row is None:
            session.add(TaxTreatment(**treatment.model_dump()))
        else:
            row.valid_until = (
                treatment.valid_until
            )  # the only thing that changes: another treatment is a row of its own
    published = [
        {"quote": rate.quote, "month": rate.month, "rate": rate.rate, "source": "BMF", "derivation": rate.document}
        for rate in catalog.fx_rates
    ]
    if published:  # a rate that was entered stays: invoices rest on it
        session.execute(insert(FxRate).values(published).on_conflict_do_nothing())
    session.flush()


def _write_costs(session: Session, site: Site) -> None:
    """As declared. Nothing is billed by them, so what was declared wrongly may be declared anew."""
    session.execute(delete(CostRate))
    session.add_all(CostRate(**rate.model_dump()) for rate in site.costs)


def _write_prices(session: Session, declared: tuple[PriceRow, ...], now: datetime) -> tuple[int, int]:
    stored = {
        (row.variant_id, row.currency, row.unit, row.valid_from): row
        for row in session.scalars(select(Price).where(Price.tenant_id.is_(None)).with_for_update())
    }
    tiers: dict[UUID, list[tuple[int, Decimal]]] = defaultdict(list)
    for tier in session.scalars(select(PriceTier).order_by(PriceTier.from_tokens)):
        tiers[tier.price_id].append((tier.from_tokens, tier.per_million))
    findings = list(_forbidden_changes(declared, stored, tiers, now))
    if findings:
        raise CatalogInvalid(findings)
    ended = 0
    for row in declared:
        old = stored.get(row.key)
        if old is not None and old.valid_until is None and row.valid_until is not None:
            old.valid_until = row.valid_until
            ended += 1
    session.flush()  # ends first: a new row may begin exactly where an old one now ends
    new = [(ids.uuid7(), row) for row in declared if row.key not in stored]
    for id, row in new:
        session.add(
            Price(
                id=id,
                variant_id=row.variant_id,
                currency=row.currency,
                unit=row.unit,
                per_million=row.per_million,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
            )
        )
    session.flush()
    session.add_all(
        PriceTier(price_id=id, from_tokens=from_tokens, per_million=per_million)
        for id, row in new
        for from_tokens, per_million in row.tiers
    )
    session.flush()
    return len(new), ended


def _forbidden_changes(
    declared: tuple[PriceRow, ...],
    stored: dict[tuple[str, str, str, datetime], Price],
    tiers: Mapping[UUID, list[tuple[int, Decimal]]],
    now: datetime,
) -> list[Finding]:
    findings = []
    priced = {key[:3] for key in stored}
    for row in declared:
        old = stored.get(row.key)
        what = f"{row.variant_id}: the {row.currency} price of {row.unit} from {row.valid_from.isoformat()}"
        if old is None:
            if row.key[:3] in priced and row.valid_from < now:
                findings.append(Finding(row.file, row.line, f"{what} begins in the past; usage may be rated already"))
        elif old.per_million != row.per_million:
            findings.append(
                Finding(
                    row.file, row.line,
                    f"{what} is {_plain(old.per_million)} and never changes; add an entry with a later valid_from",
                )
            )  # fmt: skip
        elif tiers.get(old.id, []) != list(row.tiers):
            findings.append(
                Finding(row.file, row.line, f"{what} has tiers that never change; add an entry with a later valid_from")
            )
        elif old.valid_until != row.valid_until:
            if old.valid_until is not None:
                findings.append(Finding(row.file, row.line, f"{what} already ended at {old.valid_until.isoformat()}"))
            elif row.valid_until is not None and row.valid_until < now:
                findings.append(Finding(row.file, row.line, f"{what} cannot end in the past"))
    return findings


def _upsert(
    session: Session, table: type[Model | ModelVariant | LegalEntity], rows: list[dict[str, object]], key: str
) -> None:
    statement = insert(table)
    changed = {name: statement.excluded[name] for name in rows[0] if name != key}
    session.execute(statement.values(rows).on_conflict_do_update(index_elements=[key], set_=changed))


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
