"""Our own rules, with zero tolerance: official validators accept VAT that is wrong by 0.99 and lines wrong by 20.00.

The snapshot is recomputed in Decimal from its quantities and prices. Then each document is read back and must say what
the snapshot says, to the last cent, and nothing beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

from stdnum import iso11649

from billing.documents import expected, reading
from billing.documents.reading import Facts
from billing.documents.snapshot import CANCELLATION, CREDIT_NOTE, INVOICE, Snapshot
from billing.tax import EU, in_euro
from studio.money import CENT, Currency, RoundingMode

RULE_SET, VERSION = "own invariants", "2"
_EXEMPT = frozenset({"AE", "G", "O"})
_MODES = {RoundingMode.HALF_UP: ROUND_HALF_UP, RoundingMode.HALF_EVEN: ROUND_HALF_EVEN}


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule, the place (a line, a term), and what is there instead of what."""

    rule: str
    where: str
    words: str


def of_snapshot(snapshot: Snapshot, today: date) -> list[Broken]:
    """What is wrong with the content itself; empty when all is well."""
    return [
        *_lines_are_recomputed(snapshot),
        *_totals_are_recomputed(snapshot),
        *_tax_is_recomputed(snapshot),
        *_category_is_consistent(snapshot),
        *_euro_tax_is_there(snapshot),
        *_days_are_in_order(snapshot, today),
        *_references_hold(snapshot),
    ]


def of_cii(snapshot: Snapshot, xml: bytes) -> list[Broken]:
    """Where a CII file says something else than the snapshot."""
    return _differences("CII-IS-SNAPSHOT", expected.of_cii(snapshot), reading.read_cii(xml))


def of_ubl(snapshot: Snapshot, xml: bytes) -> list[Broken]:
    """Where a UBL file says something else than the snapshot."""
    return _differences("UBL-IS-SNAPSHOT", expected.of_ubl(snapshot), reading.read_ubl(xml))


def _differences(rule: str, right: Facts, found: Facts) -> list[Broken]:
    return [
        Broken(rule, name, f"{found.get(name, 'nothing')!r} instead of {right.get(name, 'nothing')!r}")
        for name in sorted(right.keys() | found.keys())
        if right.get(name) != found.get(name)
    ]


def _lines_are_recomputed(snapshot: Snapshot) -> Iterator[Broken]:
    if not snapshot.lines:
        yield Broken("LINES-EXIST", "lines", "there is none")
    if len({line.line_no for line in snapshot.lines}) != len(snapshot.lines):
        yield Broken("LINES-EXIST", "lines", "two have the same number")
    for line in snapshot.lines:
        where = f"line {line.line_no}"
        if line.price < 0:
            yield Broken("PRICE-NOT-NEGATIVE", where, f"{line.price}: the sign belongs to the quantity")
        amount = _rounded(line.quantity * line.price / line.base, snapshot)
        if line.amount != amount or line.amount.as_tuple().exponent != -2:
            yield Broken(
                "LINE-IS-QUANTITY-TIMES-PRICE", where,
                f"{line.amount} instead of {line.quantity} x {line.price} / {line.base} = {amount}",
            )  # fmt: skip
        takes_back = snapshot.type in (CREDIT_NOTE, CANCELLATION)
        if takes_back and line.invoiced is not None and abs(line.amount) > line.invoiced:
            yield Broken("NOT-MORE-THAN-INVOICED", where, f"{line.amount} of {line.invoiced}")


def _totals_are_recomputed(snapshot: Snapshot) -> Iterator[Broken]:
    net = sum((line.amount for line in snapshot.lines), Decimal("0.00"))
    for rule, where, found, right in (
        ("NET-IS-SUM-OF-LINES", "net", snapshot.net, net),
        ("GROSS-IS-NET-PLUS-TAX", "gross", snapshot.gross, snapshot.net + snapshot.tax),
        ("DUE-IS-GROSS-LESS-PREPAID", "due", snapshot.due, snapshot.gross - snapshot.prepaid),
    ):
        if found != right:
            yield Broken(rule, where, f"{found} instead of {right}")
    if snapshot.prepaid and not 0 < snapshot.prepaid <= snapshot.gross:
        yield Broken("PREPAID-WITHIN-GROSS", "prepaid", f"{snapshot.prepaid} of {snapshot.gross}")
    is_negative = snapshot.type == CANCELLATION
    if any(amount < 0 for amount in (snapshot.net, snapshot.tax)) and not is_negative:
        yield Broken("TYPE-CARRIES-THE-SIGN", "net", f"{snapshot.net} + {snapshot.tax} in a {snapshot.type}")
    if any(amount > 0 for amount in (snapshot.net, snapshot.tax)) and is_negative:
        yield Broken("TYPE-CARRIES-THE-SIGN", "net", f"{snapshot.net} + {snapshot.tax} in a {snapshot.type}")


def _tax_is_recomputed(snapshot: Snapshot) -> Iterator[Broken]:
    """Net times rate. Only a correction that takes the rest takes its tax with it, whatever the rounding left."""
    tax = _rounded(snapshot.net * snapshot.tax_rate, snapshot)
    if snapshot.original is not None and snapshot.type in (CREDIT_NOTE, CANCELLATION):
        left, sign = snapshot.original, -1 if snapshot.type == CANCELLATION else 1
        takes_rest = sign * snapshot.net == left.net_left
        tax = sign * (left.tax_left if takes_rest else min(sign * tax, left.tax_left))
    if snapshot.tax != tax:
        yield Broken("TAX-IS-NET-TIMES-RATE", "tax", f"{snapshot.tax} instead of {tax}")


def _category_is_consistent(snapshot: Snapshot) -> Iterator[Broken]:
    category, rate = snapshot.tax_category, snapshot.tax_rate
    if snapshot.currency not in set(Currency):
        yield Broken("CURRENCY-IS-ALLOWED", "currency", f"{snapshot.currency}: use {' or '.join(Currency)}")
    if category not in _EXEMPT | {"S"}:
        yield Broken("CATEGORY-IS-KNOWN", "tax category", category)
    if category in _EXEMPT and (rate or snapshot.tax):
        yield Broken("EXEMPT-HAS-NO-TAX", "tax", f"{snapshot.tax} at {rate} in category {category}")
    if category == "S" and not rate:
        yield Broken("STANDARD-HAS-TAX", "tax rate", f"{rate} in category S")
    if category in _EXEMPT and snapshot.exemption_code != f"VATEX-EU-{category}":
        yield Broken("EXEMPTION-IS-NAMED", "exemption code", f"{snapshot.exemption_code} in category {category}")
    if category in _EXEMPT and not snapshot.exemption_reason:
        yield Broken("EXEMPTION-IS-NAMED", "exemption reason", f"none in category {category}")
    if category == "S" and (snapshot.exemption_code or snapshot.exemption_reason):
        yield Broken("EXEMPTION-IS-NAMED", "exemption reason", "one in category S")
    if category in ("AE", "G") and not snapshot.seller.get("vat_id"):
        yield Broken("VAT-IDS-ARE-THERE", "seller", f"no VAT id in category {category}")
    if category == "AE":
        buyer_country = snapshot.buyer.get("country")
        if not snapshot.buyer.get("vat_id"):
            yield Broken("VAT-IDS-ARE-THERE", "buyer", "no VAT id for reverse charge")
        if buyer_country not in EU or buyer_country == snapshot.seller.get("country"):
            yield Broken("REVERSE-CHARGE-CROSSES-A-BORDER", "buyer", f"in {buyer_country}")


def _euro_tax_is_there(snapshot: Snapshot) -> Iterator[Broken]:
    """Art. 230 of the VAT directive, which no schematron checks."""
    euro = snapshot.euro_tax
    is_needed = snapshot.seller.get("country") in EU and snapshot.currency != "EUR" and bool(snapshot.tax_rate)
    if is_needed != (euro is not None):
        yield Broken("TAX-IS-IN-EURO-TOO", "BT-111", "missing" if is_needed else "not needed, but there")
    elif euro is not None and euro.amount != in_euro(snapshot.tax, euro.units_per_euro):
        right = in_euro(snapshot.tax, euro.units_per_euro)
        yield Broken("TAX-IS-IN-EURO-TOO", "BT-111", f"{euro.amount} instead of {right}")
    if euro is not None and euro.month != snapshot.period_until.replace(day=1):
        yield Broken("EURO-RATE-IS-OF-THE-SUPPLY", "BT-111", f"of {euro.month:%Y-%m}")


def _days_are_in_order(snapshot: Snapshot, today: date) -> Iterator[Broken]:
    if snapshot.issued_on > today:
        yield Broken("ISSUED-UNTIL-TODAY", "issued on", f"{snapshot.issued_on}, today is {today}")
    if snapshot.period_from > snapshot.period_until or snapshot.period_from.replace(
        day=1
    ) != snapshot.period_until.replace(day=1):
        yield Broken("PERIOD-IS-IN-A-MONTH", "period", f"{snapshot.period_from} to {snapshot.period_until}")
    for line in snapshot.lines:
        if not snapshot.period_from <= line.period_from <= line.period_until <= snapshot.period_until:
            yield Broken("LINE-IS-IN-PERIOD", f"line {line.line_no}", f"{line.period_from} to {line.period_until}")
    if snapshot.due_on is not None and snapshot.due_on < snapshot.issued_on:
        yield Broken("DUE-AFTER-ISSUE", "due on", str(snapshot.due_on))
    if (snapshot.due_on is None) != (snapshot.due <= 0 or snapshot.type == CREDIT_NOTE):
        yield Broken("DUE-DATE-IF-DUE", "due on", f"{snapshot.due_on} with {snapshot.due} due")


def _references_hold(snapshot: Snapshot) -> Iterator[Broken]:
    if snapshot.original is None and snapshot.type != INVOICE:
        yield Broken("CORRECTION-NAMES-THE-ORIGINAL", "BT-25", f"a {snapshot.type} without it")
    if snapshot.payment_reference is not None and not iso11649.is_valid(snapshot.payment_reference):
        yield Broken("PAYMENT-REFERENCE-IS-VALID", "payment reference", snapshot.payment_reference)
    if snapshot.due_on is not None and snapshot.payment_reference is None:
        yield Broken("PAYMENT-REFERENCE-IS-VALID", "payment reference", "none, with an amount due")
    for where, text in (("seller", str(snapshot.seller)), ("reason", str(snapshot.original))):
        if "gutschrift" in text.lower():
            yield Broken("NO-SELF-BILLING-WORD", where, "by law that word means an invoice that the customer writes")


def _rounded(amount: Decimal, snapshot: Snapshot) -> Decimal:
    return amount.quantize(CENT, _MODES[snapshot.rounding_mode])
