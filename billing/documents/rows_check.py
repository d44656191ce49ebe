"""The snapshot against the rows that it was made from, read again; and the detail against the lines."""

from __future__ import annotations

from collections.abc import Container, Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import rating
from billing.documents.detail import DetailRow
from billing.documents.invariants import Broken
from billing.documents.snapshot import CANCELLATION, Line, Snapshot
from studio.db.corrections import Correction, CorrectionLine
from studio.db.invoices import Invoice, InvoiceLine


def of_invoice(session: Session, invoice_id: UUID, snapshot: Snapshot) -> list[Broken]:
    """Where a snapshot says something else than the invoice's rows."""
    row = session.get_one(Invoice, invoice_id)
    query = select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id)
    lines = {line.line_no: (line.tokens, line.per_million, line.amount) for line in session.scalars(query)}
    kept = {line.line_no: (line.tokens, line.price, line.amount) for line in snapshot.lines}
    return [
        *_compared("number", snapshot.number, row.number),
        *_compared("currency", snapshot.currency, row.currency),
        *_compared("net", snapshot.net, row.net),
        *_compared("tax", snapshot.tax, row.tax),
        *_compared("gross", snapshot.gross, row.gross),
        *_compared("prepaid", snapshot.prepaid, row.prepaid),
        *(broken for no in sorted(lines | kept) for broken in _compared(f"line {no}", kept.get(no), lines.get(no))),
    ]


def of_correction(session: Session, correction_id: UUID, snapshot: Snapshot) -> list[Broken]:
    """The same for a correction; the rows have no sign, a cancellation's document has."""
    row = session.get_one(Correction, correction_id)
    sign = -1 if snapshot.type == CANCELLATION else 1
    query = select(CorrectionLine).where(CorrectionLine.correction_id == correction_id)
    lines = {line.line_no: sign * line.amount for line in session.scalars(query)}
    kept = {line.line_no: line.amount for line in snapshot.lines}
    return [
        *_compared("number", snapshot.number, row.number),
        *_compared("type", snapshot.type, row.type),
        *_compared("net", snapshot.net, sign * row.net),
        *_compared("tax", snapshot.tax, sign * row.tax),
        *_compared("gross", snapshot.gross, sign * row.gross),
        *(broken for no in sorted(lines | kept) for broken in _compared(f"line {no}", kept.get(no), lines.get(no))),
    ]


def of_detail(snapshot: Snapshot, rows: Sequence[DetailRow]) -> list[Broken]:
    """The uses behind each line have its tokens and its exact amount.

    Volume tiers make several lines of the same uses, which stand behind the first: together they have their tokens.
    """
    broken = []
    for lines in _of_same_uses(snapshot, {row.line_no for row in rows}):
        own = [row for row in rows if row.line_no == lines[0].line_no]
        tokens, amount = sum(row.tokens for row in own), rating.exact_sum([row.amount for row in own])
        invoiced = sum(line.quantity for line in lines)
        exact = rating.rate(invoiced, lines[0].price) if len(lines) == 1 else amount
        if (tokens, amount) != (invoiced, exact):
            words = f"{tokens} tokens and {amount} instead of {invoiced} and {exact}"
            broken.append(Broken("DETAIL-IS-THE-LINE", f"line {lines[0].line_no}", words))
    return broken


def _of_same_uses(snapshot: Snapshot, with_rows: Container[int]) -> list[list[Line]]:
    groups: list[list[Line]] = []
    for line in snapshot.lines:
        if line.is_adjustment:
            continue
        if line.line_no in with_rows or not groups:
            groups.append([line])
        else:
            groups[-1].append(line)
    return groups


def _compared(where: str, kept: object, row: object) -> list[Broken]:
    if kept == row:
        return []
    return [Broken("SNAPSHOT-IS-THE-ROWS", where, f"{_text(kept)} instead of {_text(row)}")]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(_text(one) for one in value)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
