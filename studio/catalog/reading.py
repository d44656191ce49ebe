"""Read the catalog files and judge them. Pure: touches no table.

Findings name file and line, all of them at once; a catalog with a finding is never applied, not even in part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from studio import gpu_usage, storage_usage
from studio.catalog import price_lists
from studio.catalog.declaration import (
    CalendarFile,
    DeclaredModel,
    DeclaredVariant,
    LegalFile,
    PriceList,
    PriceListFile,
    Site,
    file_name_of,
)
from studio.catalog.hours import judge_calendar_names, judge_calendars, judge_overrides
from studio.catalog.judged import Catalog, CatalogInvalid, Finding, PriceRow, RoundingRow
from studio.catalog.yaml_lines import Place, YamlBroken, line_of, load
from studio.money import Currency
from studio.sold_units import ALL_UNITS, BATCH_UNITS, NO_MODELS_GPU_HOURS, TAKES_ADAPTERS, UNITS_BY_TASK

# Activations, KV cache and the runtime need room beside the weights; below this a replica starts and then fails.
WEIGHTS_HEADROOM = Decimal("1.15")
BATCH_DIVISOR = 2  # a batch pays half
PRICE_DECIMALS = 6
ROWS_VERSION = b"4"  # another one whenever the same files give other rows, so that every installation applies them anew

Parsed = TypeVar("Parsed", bound=BaseModel)


def content_hash(folder: Path, site: str) -> str:
    """A hash over the site's name and every catalog file: equal hash, nothing to synchronise."""
    digest = hashlib.sha256(ROWS_VERSION + b"\0" + site.encode())
    for path in sorted(folder.rglob("*.yaml")):
        digest.update(f"\0{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_catalog(folder: Path, site: str) -> Catalog:
    """Read and judge all files of `folder`; CatalogInvalid carries every finding."""
    findings: list[Finding] = []
    hash_ = content_hash(folder, site)
    site_file = folder / "sites" / f"{site}.yaml"
    declared_site, site_lines = _parse(site_file, folder, Site, findings)
    legal, _ = _parse(folder / "legal_entities.yaml", folder, LegalFile, findings)
    calendars = _read_calendars(folder, findings)
    storage, rounding = _read_price_lists(folder, findings)
    models: list[DeclaredModel] = []
    prices: list[PriceRow] = [*storage]
    seen: dict[str, str] = {}
    for path in sorted((folder / "models").glob("*.yaml")):
        model, lines = _parse(path, folder, DeclaredModel, findings)
        if model is None:
            continue
        name = path.relative_to(folder).as_posix()
        findings += (
            Finding(name, line_of(lines, place), text) for place, text in _judge(model, declared_site, seen, name)
        )
        if calendars is not None:
            findings += (
                Finding(name, line_of(lines, place), text) for place, text in judge_calendar_names(model, calendars)
            )
        prices += _price_rows(model, name, lines, findings)
        models.append(model)
    if declared_site is not None:
        variants = {variant.id for model in models for variant in model.variants}
        site_name = site_file.relative_to(folder).as_posix()
        findings += (
            Finding(site_name, line_of(site_lines, place), text)
            for place, text in (
                *_judge_site(declared_site, variants),
                *judge_overrides(declared_site),
                *_judge_costs(declared_site, variants),
            )
        )
    if findings or declared_site is None or legal is None or calendars is None:
        raise CatalogInvalid(findings)
    return Catalog(
        content_hash=hash_,
        models=tuple(models),
        prices=tuple(prices),
        rounding=tuple(rounding),
        site=declared_site,
        calendars=calendars.calendars,
        legal_entities=legal.legal_entities,
        tax_rates=legal.tax_rates,
        tax_treatments=legal.tax_treatments,
        fx_rates=legal.fx_rates,
    )


def _read_calendars(folder: Path, findings: list[Finding]) -> CalendarFile | None:
    path = folder / "calendars.yaml"
    if not path.is_file():
        return CalendarFile()
    file, lines = _parse(path, folder, CalendarFile, findings)
    if file is not None:
        findings += (Finding(path.name, line_of(lines, place), text) for place, text in judge_calendars(file))
    return file


def _read_price_lists(folder: Path, findings: list[Finding]) -> tuple[list[PriceRow], list[RoundingRow]]:
    path = folder / price_lists.FILE
    if not path.is_file():
        return [], []
    file, lines = _parse(path, folder, PriceListFile, findings)
    return ([], []) if file is None else price_lists.rows_of(file, lines, findings)


def _parse(
    path: Path, folder: Path, kind: type[Parsed], findings: list[Finding]
) -> tuple[Parsed | None, dict[Place, int]]:
    name = path.relative_to(folder).as_posix()
    if not path.is_file():
        findings.append(Finding(name, 1, "there is no such file"))
        return None, {(): 1}
    try:
        document, lines = load(path)
    except YamlBroken as error:
        findings.append(Finding(name, error.line, str(error)))
        return None, {(): 1}
    try:
        return kind.model_validate(document), lines
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place: Place = detail["loc"]
            findings.append(Finding(name, line_of(lines, place), _sentence(detail["type"], place, detail["msg"])))
        return None, lines


def _sentence(kind: str, place: Place, message: str) -> str:
    where = ".".join(map(str, place)) or "the file"
    match kind:
        case "extra_forbidden" if place[-1] == "gpu_hour":
            return f"`{where}`: {NO_MODELS_GPU_HOURS}"
        case "extra_forbidden":
            return f"unknown field `{where}`"
        case "missing":
            return f"`{where}` is missing"
        case _:
            return f"`{where}`: {message}"


def _judge(model: DeclaredModel, site: Site | None, seen: dict[str, str], file: str) -> Iterator[tuple[Place, str]]:
    """What a schema cannot say about one model."""
    if Path(file).stem != file_name_of(model.id):
        yield ("id",), f"the file of {model.id} must be called {file_name_of(model.id)}.yaml"
    tiers = [variant.tier for variant in model.variants]
    for index, variant in enumerate(model.variants):
        place: Place = ("variants", index)
        if variant.id == storage_usage.PRODUCT:
            yield (*place, "id"), f"{variant.id} is what storage is called on invoices"
        if variant.id == gpu_usage.PRODUCT:
            yield (*place, "id"), f"{variant.id} is what reserved cards are called on invoices"
        if variant.id in seen:
            yield (*place, "id"), f"{variant.id} is already declared in {seen[variant.id]}"
        seen[variant.id] = file
        expected = model.id if variant.tier == "base" else f"{model.id}-fast"
        if variant.id != expected:
            yield (*place, "id"), f"the {variant.tier} variant of {model.id} must be called {expected}"
        if tiers.count(variant.tier) > 1:
            yield (*place, "tier"), f"{model.id} has more than one {variant.tier} variant"
        if variant.first_token_target is not None and (variant.tier != "fast" or "base" not in tiers):
            yield (
                (*place, "first_token_target"),
                f"{variant.id}: only a fast tier beside a base tier promises a first token",
            )
        if variant.context_tokens > model.context_tokens:
            yield (
                (*place, "context_tokens"),
                f"{variant.context_tokens} tokens are more than the model's {model.context_tokens}",
            )
        if site is not None and variant.gpu_count > 0:
            room = variant.gpu_count * site.card.memory_bytes
            if variant.weights_bytes * WEIGHTS_HEADROOM > room:
                need = f"weights of {_gb(variant.weights_bytes)} x {WEIGHTS_HEADROOM}"
                cards = f"{variant.gpu_count} x {site.card.name} ({_gb(room)})"
                yield (*place, "weights_bytes"), f"{variant.id}: {need} do not fit on {cards}"


def _judge_site(site: Site, variants: set[str]) -> Iterator[tuple[Place, str]]:
    running = {entry.variant for entry in site.deploy if entry.replicas > 0}
    for index, entry in enumerate(site.deploy):
        place: Place = ("deploy", index)
        if entry.variant not in variants:
            yield (*place, "variant"), f"no catalog file declares {entry.variant}"
        if [other.variant for other in site.deploy].count(entry.variant) > 1:
            yield (*place, "variant"), f"{entry.variant} is deployed twice"
        if entry.served_by is not None and (entry.replicas or entry.served_by not in running):
            yield (*place, "served_by"), f"{entry.variant} must have no replicas and {entry.served_by} must have some"


def _judge_costs(site: Site, variants: set[str]) -> Iterator[tuple[Place, str]]:
    for position, (earlier, later) in enumerate(pairwise(site.costs), start=1):
        if later.valid_from <= earlier.valid_from:
            yield ("costs", position), "cost rates stand in the order of their beginnings, each once"
    for variant in site.first_token_ms_p50.keys() - variants:
        yield ("first_token_ms_p50", variant), f"no catalog file declares {variant}"


def _price_rows(
    model: DeclaredModel, file: str, lines: dict[Place, int], findings: list[Finding]
) -> Iterator[PriceRow]:
    for index, variant in enumerate(model.variants):
        place: Place = ("variants", index, "prices")
        missing = [currency for currency in Currency if not variant.prices.get(currency)]
        findings += (Finding(file, line_of(lines, place), f"{variant.id} has no {code} price") for code in missing)
        for code, entries in variant.prices.items():
            try:
                currency = Currency.parse(code)
            except ValueError as error:
                findings.append(Finding(file, line_of(lines, (*place, code)), str(error)))
                continue
            findings += _judge_spans(variant.id, entries, file, lines, (*place, code))
            ends = [*(entry.valid_from for entry in entries[1:]), None]
            for position, (entry, following) in enumerate(zip(entries, ends, strict=True)):
                line = line_of(lines, (*place, code, position))
                findings += _judge_units(model.task, variant, currency, entry, file, line)
                until = entry.valid_until or following
                for unit in UNITS_BY_TASK[model.task]:
                    amount: Decimal | None = getattr(entry, unit)
                    if amount is None:
                        continue
                    tiers = tuple((tier.from_tokens, tier.per_million) for tier in entry.tiers.get(unit, ()))
                    if any(round(price / BATCH_DIVISOR, PRICE_DECIMALS) * BATCH_DIVISOR != price
                           for price in (amount, *(price for _, price in tiers))):  # fmt: skip
                        what = f"{variant.id}: half the {currency} price of {unit}, for batches,"
                        findings.append(Finding(file, line, f"{what} has more than {PRICE_DECIMALS} decimals"))
                    for sold, divisor in ((unit, 1), (BATCH_UNITS[unit], BATCH_DIVISOR)):
                        yield PriceRow(
                            variant.id, currency, sold, amount / divisor, entry.valid_from, until, file, line,
                            tuple((from_tokens, price / divisor) for from_tokens, price in tiers),
                        )  # fmt: skip
                if entry.reused is not None:
                    yield PriceRow(variant.id, currency, "reused", entry.reused, entry.valid_from, until, file, line)
                if entry.training is not None:
                    yield PriceRow(
                        variant.id, currency, "training", entry.training, entry.valid_from, until, file, line
                    )


def _judge_units(
    task: str, variant: DeclaredVariant, currency: Currency, entry: PriceList, file: str, line: int
) -> Iterator[Finding]:
    for unit in ALL_UNITS:
        wanted, given = unit in UNITS_BY_TASK[task], getattr(entry, unit) is not None
        if wanted and not given:
            yield Finding(file, line, f"{variant.id}: the {currency} price of {unit} is missing")
        if given and not wanted:
            yield Finding(file, line, f"{variant.id}: {task} models have no {unit} price")
        steps = [
            (0, getattr(entry, unit)),
            *((tier.from_tokens, tier.per_million) for tier in entry.tiers.get(unit, ())),
        ]
        if len(steps) > 1 and not given:
            yield Finding(file, line, f"{variant.id}: tiers of {unit}, which has no {currency} price")
        elif any(upper[0] <= lower[0] or upper[1] >= lower[1] for lower, upper in pairwise(steps)):
            yield Finding(file, line, f"{variant.id}: each tier of {unit} must begin later and cost less than the last")
    takes_adapters = TAKES_ADAPTERS in variant.engine_flags
    if takes_adapters != (entry.training is not None):
        what = "is missing" if takes_adapters else f"is of no use without the engine flag {TAKES_ADAPTERS}"
        yield Finding(file, line, f"{variant.id}: the {currency} price of training {what}")
    # What is reserved for a request, and expected of it, is its price at an engine: a hit must never be dearer.
    amounts = [amount for unit in UNITS_BY_TASK[task] if (amount := getattr(entry, unit)) is not None]
    if entry.reused is not None and any(entry.reused > amount for amount in amounts):
        yield Finding(
            file, line, f"{variant.id}: the {currency} price of reused tokens is above that of asking an engine"
        )


def _judge_spans(
    variant: str, entries: tuple[PriceList, ...], file: str, lines: dict[Place, int], place: Place
) -> Iterator[Finding]:
    for position, (earlier, later) in enumerate(pairwise(entries), start=1):
        line = line_of(lines, (*place, position))
        end = earlier.valid_until
        if later.valid_from <= earlier.valid_from or (end is not None and later.valid_from < end):
            yield Finding(file, line, f"{variant}: this price overlaps the one before it")
        elif end is not None and later.valid_from > end:
            yield Finding(file, line, f"{variant}: there is no price from {end.isoformat()} to this one")
    for position, entry in enumerate(entries):
        if entry.valid_until is not None and entry.valid_until <= entry.valid_from:
            yield Finding(file, line_of(lines, (*place, position)), f"{variant}: this price ends before it begins")


def _gb(size_bytes: int) -> str:
    return f"{Decimal(size_bytes) / 10**9:.1f} GB"
