"""The snapshot: all that the documents of a final invoice or correction say, in one frozen value.

It is derived from frozen rows and then kept (`store.py`), so that a model that is renamed later changes no document.
Amounts are signed as the documents print them: a cancellation (384) is negative, a credit note (381) is positive, since
there the type carries the sign.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from billing.rating import ADJUSTMENT_NAMES, LINE_NAMES
from billing.tax import EU
from studio.money import RoundingMode

INVOICE, CREDIT_NOTE, CANCELLATION = "380", "381", "384"
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """`amount` is `quantity x price / base`, rounded once, as the document says. The sign is on the quantity."""

    line_no: int
    product: str
    unit: str  # key of rating.LINE_NAMES
    quantity: int
    price: Decimal
    base: int
    amount: Decimal
    explanation: str
    period_from: date
    period_until: date
    invoiced: Decimal | None = None  # of a correction: what the invoice said
    rated_by: str | None = None  # version of the code that priced its tokens; None: no tokens, or older than this

    @property
    def is_adjustment(self) -> bool:
        """Whether no tokens stand behind it: it is one piece, given or taken back."""
        return self.unit in ADJUSTMENT_NAMES

    @property
    def name(self) -> str:
        """Product and unit, as both e-invoices call it; a minimum commitment is of no product."""
        unit = LINE_NAMES[self.unit]
        return f"{self.product}, {unit}" if self.product else unit

    @property
    def tokens(self) -> int:
        """The quantity by the million, as invoice lines are kept."""
        return self.quantity * MILLION // self.base


@dataclass(frozen=True, slots=True)
class EuroTax:
    """The VAT in the currency of the tax office, where the invoice has another one."""

    amount: Decimal
    units_per_euro: Decimal
    month: date
    source: str
    derivation: str


@dataclass(frozen=True, slots=True)
class Original:
    """The corrected invoice, and what was left of it before this correction."""

    number: str
    issued_on: date
    reason: str
    net_left: Decimal
    tax_left: Decimal


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One document's content. Money has two decimals and is in `currency`."""

    id: str
    tenant: str
    type: str  # UNTDID 1001: 380, 381, 384
    number: str
    issued_on: date
    due_on: date | None
    period_from: date
    period_until: date
    time_zone: str
    currency: str
    seller: Mapping[str, Any]
    buyer: Mapping[str, Any]
    buyer_reference: str
    lines: tuple[Line, ...]
    tax_category: str
    tax_rate: Decimal
    exemption_code: str | None
    exemption_reason: str | None
    euro_tax: EuroTax | None
    net: Decimal
    tax: Decimal
    gross: Decimal
    prepaid: Decimal
    due: Decimal
    payment_reference: str | None
    original: Original | None
    rounding_mode: RoundingMode = RoundingMode.HALF_UP  # that of all documents from before it was named

    @property
    def has_e_invoice(self) -> bool:
        """Whether XML by EN 16931 belongs to it: only sellers in the EU write that."""
        return self.seller["country"] in EU


@cache
def _adapter() -> TypeAdapter[Snapshot]:
    return TypeAdapter(Snapshot)


def to_json(snapshot: Snapshot) -> str:
    """Canonical JSON: sorted keys, no blanks, decimals as text. The same snapshot gives the same bytes."""
    plain = _adapter().dump_python(snapshot, mode="json")
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def from_json(content: str) -> Snapshot:
    """The snapshot behind `to_json`; pydantic's ValidationError for anything else."""
    return _adapter().validate_json(content)


def sha256_of(content: str) -> str:
    """Hash of the canonical JSON."""
    return hashlib.sha256(content.encode()).hexdigest()
