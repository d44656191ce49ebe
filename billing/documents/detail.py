"""What an invoice sums, line by line of use: per civil day, model, tier, unit and API key, as CSV and JSON.

Amounts are exact (twelve decimals); those of a line sum to its exact amount, which the invoice rounds once.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date
from decimal import Decimal
from io import StringIO
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import rating, usage
from billing.documents.snapshot import Snapshot
from billing.windows import SealKey
from studio import ids
from studio.db.catalog import ModelVariant
from studio.db.invoices import InvoicedLine, RatedLine


@dataclass(frozen=True, slots=True)
class DetailRow:
    """The tokens of one key on one day at one price. `amount` is exact and in the invoice's currency."""

    line_no: int
    day: date
    model: str
    tier: str
    unit: str
    key: str
    tokens: int
    price_per_million: Decimal
    amount: Decimal
    currency: str


def of_invoice(session: Session, invoice_id: UUID, currency: str) -> list[DetailRow]:
    """The rows behind an invoice's lines."""
    query = (
        select(InvoicedLine.line_no, RatedLine, ModelVariant.model_id, ModelVariant.tier)
        .join(RatedLine, RatedLine.id == InvoicedLine.rated_line_id)
        .join(ModelVariant, ModelVariant.id == RatedLine.variant_id)
        .where(InvoicedLine.invoice_id == invoice_id)
    )
    rated = session.execute(query).all()
    by_key: dict[tuple[SealKey, str, str, UUID, date, str], list[tuple[UUID, int]]] = {}
    for seal in sorted({_seal(row.RatedLine) for row in rated}, key=astuple):
        for one in usage.tokens_by_key(session, seal):
            where = (seal, one.variant_id, one.unit, one.price_id, one.billing_day, one.basis)
            by_key.setdefault(where, []).append((one.api_key_id, one.tokens))
    rows = [
        DetailRow(
            line_no=line_no,
            day=line.billing_day,
            model=model_id,
            tier=tier,
            unit=line.unit,
            key=ids.to_wire(ids.API_KEY, key_id),
            tokens=tokens,
            price_per_million=line.per_million,
            amount=rating.rate(tokens, line.per_million),
            currency=currency,
        )
        for line_no, line, model_id, tier in rated
        for key_id, tokens in by_key.get(_place(line), [])
    ]
    return _summed(rows)


def as_csv(rows: Sequence[DetailRow]) -> bytes:
    """RFC 4180, with a head."""
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(field.name for field in fields(DetailRow))
    writer.writerows([_plain(value) for value in astuple(row)] for row in rows)
    return out.getvalue().encode()


def as_json(snapshot: Snapshot, content: str, rows: Sequence[DetailRow]) -> bytes:
    """The snapshot as it is kept, and the rows behind it. Amounts are text."""
    names = [field.name for field in fields(DetailRow)]
    detail = [{name: _json_value(getattr(row, name)) for name in names} for row in rows]
    body = {"number": snapshot.number, "document": json.loads(content), "detail": detail}
    return json.dumps(body, ensure_ascii=False, sort_keys=True, indent=1).encode()


def corrected_lines(snapshot: Snapshot) -> bytes:
    """The CSV of a correction: it changes lines, not uses."""
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(("line_no", "product", "unit", "invoiced", "amount", "currency", "invoice"))
    original = snapshot.original
    assert original is not None
    for line in snapshot.lines:
        invoiced = "" if line.invoiced is None else _plain(line.invoiced)
        row = (line.line_no, line.product, line.unit, invoiced, _plain(line.amount), snapshot.currency, original.number)
        writer.writerow(row)
    return out.getvalue().encode()


def _summed(rows: Sequence[DetailRow]) -> list[DetailRow]:
    """One row for each day, product and key: several seals of a day are one."""
    groups: dict[tuple[object, ...], list[DetailRow]] = {}
    for row in rows:
        where = (row.line_no, row.day, row.model, row.tier, row.unit, row.key, row.price_per_million)
        groups.setdefault(where, []).append(row)
    summed = [
        DetailRow(
            line_no=first.line_no,
            day=first.day,
            model=first.model,
            tier=first.tier,
            unit=first.unit,
            key=first.key,
            tokens=sum(row.tokens for row in group),
            price_per_million=first.price_per_million,
            amount=rating.exact_sum([row.amount for row in group]),
            currency=first.currency,
        )
        for group in groups.values()
        if (first := group[0])
    ]
    return sorted(summed, key=lambda row: (row.line_no, row.day, row.key))


def _place(line: RatedLine) -> tuple[SealKey, str, str, UUID, date, str]:
    return _seal(line), line.variant_id, line.unit, line.price_id, line.billing_day, line.basis


def _seal(line: RatedLine) -> SealKey:
    return SealKey(line.window_day, line.tenant_id, line.seal_no)


def _plain(value: object) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _json_value(value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date) else value
