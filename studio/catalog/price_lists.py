"""`catalog/price_lists.yaml`: what of a price list is no model's. Its rows, and what a schema cannot say. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import pairwise
from typing import Literal

from studio import gpu_usage, storage_usage
from studio.catalog.declaration import DeclaredPriceList, GpuHourPrice, PriceListFile, StoragePrice
from studio.catalog.judged import Finding, PriceRow, RoundingRow
from studio.catalog.yaml_lines import Place, line_of
from studio.money import Currency

FILE = "price_lists.yaml"

Sold = Literal["storage", "gpu_hour"]
_SOLD: dict[Sold, Callable[[DeclaredPriceList], Sequence[StoragePrice | GpuHourPrice]]] = {
    "storage": lambda declared: declared.storage,
    "gpu_hour": lambda declared: declared.gpu_hour,
}
_PRODUCTS: dict[Sold, str] = {"storage": storage_usage.PRODUCT, "gpu_hour": gpu_usage.PRODUCT}
_NAMES: dict[Sold, str] = {"storage": "storage", "gpu_hour": "GPU hours"}


def rows_of(
    file: PriceListFile, lines: dict[Place, int], findings: list[Finding]
) -> tuple[list[PriceRow], list[RoundingRow]]:
    """The prices of storage and of GPU hours and the modes of rounding; what is wrong is added to `findings`."""
    prices: list[PriceRow] = []
    rounding: list[RoundingRow] = []
    for code, declared in file.price_lists.items():
        place: Place = ("price_lists", code)
        try:
            currency = Currency.parse(code)
        except ValueError as error:
            findings.append(Finding(FILE, line_of(lines, place), str(error)))
            continue
        findings += (Finding(FILE, line_of(lines, where), text) for where, text in _judge(declared, currency, place))
        for sold, entries in _SOLD.items():
            for position, (entry, following) in enumerate(pairwise((*entries(declared), None))):
                assert entry is not None
                until = None if following is None else following.valid_from
                amount = entry.gigabyte_day if isinstance(entry, StoragePrice) else entry.gpu_hour
                prices.append(
                    PriceRow(
                        _PRODUCTS[sold], currency, sold, amount, entry.valid_from, entry.valid_until or until, FILE,
                        line_of(lines, (*place, sold, position)),
                    )
                )  # fmt: skip
        rounding += (
            RoundingRow(currency, mode.valid_from, mode.mode, FILE, line_of(lines, (*place, "rounding", position)))
            for position, mode in enumerate(declared.rounding)
        )
    return prices, rounding


def _judge(declared: DeclaredPriceList, currency: Currency, place: Place) -> Iterator[tuple[Place, str]]:
    for sold, entries in _SOLD.items():
        what = f"the {currency} price of {_NAMES[sold]}"
        for position, (earlier, later) in enumerate(pairwise(entries(declared)), start=1):
            if later.valid_from <= earlier.valid_from or (earlier.valid_until or later.valid_from) > later.valid_from:
                yield (*place, sold, position), f"{what} overlaps the one before it"
        for position, entry in enumerate(entries(declared)):
            if entry.valid_until is not None and entry.valid_until <= entry.valid_from:
                yield (*place, sold, position), f"{what} ends before it begins"
    begins: list[date] = [mode.valid_from for mode in declared.rounding]
    for position, begin in enumerate(begins):
        if begin.day != 1 or begin in begins[:position]:
            what = f"the rounding of {currency} invoices changes with a month, once"
            yield (*place, "rounding", position), f"{what}: {begin} is not the first of one, or is there twice"
