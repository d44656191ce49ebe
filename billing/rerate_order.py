"""Making a re-rating count: what a final month came to by mistake becomes corrections of its invoices, in drafts.

A draft binds nobody: as any correction it is reviewed, approved by another person and carried out by the job, which
computes it once more (`require_current`). So a difference is corrected once, however often it is ordered or approved,
and not at all when prices have changed again meanwhile. The arithmetic is `price_changes.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from billing import adjustments as rules
from billing import cancelled, complete_months, correction_order, invoice, price_changes, review, terms, usage
from billing.adjustments import MINIMUM_COMMITMENT
from billing.complete_months import TenantMonth
from billing.correction import CorrectionType
from billing.correction_order import Explained
from billing.invoice import Line, RatedTokens, Volume
from billing.price_changes import Change, Corrected, NotForAMachine
from billing.rating import ADJUSTMENT_NAMES
from billing.windows import SealKey
from studio import ids
from studio.db.corrections import Correction, CorrectionLine
from studio.db.invoices import Invoice, InvoicedLine, InvoiceLine, RatedLine
from studio.errors import Conflict
from studio.money import Currency, RoundingMode


class NothingToCorrect(Conflict):
    """The month's final invoices, with their corrections, say what a re-rating says."""

    default_code = "nothing_to_correct"


class DraftWaits(Conflict):
    """A draft of the month is open, and what it will say depends on the others."""

    default_code = "draft_waits"


@dataclass(frozen=True, slots=True)
class _Billed:
    """A final invoice as it stands: what it says, and what re-ratings have changed of it."""

    row: Invoice
    lines: Sequence[Line]
    corrected: Mapping[int, Corrected]

    def usage(self) -> Decimal:
        """Net, without the minimum commitment."""
        own = sum((line.amount for line in self.lines if line.unit != MINIMUM_COMMITMENT), Decimal(0))
        commitments = {line.line_no for line in self.lines if line.unit == MINIMUM_COMMITMENT}
        changed = (one.amount - one.netted for line_no, one in self.corrected.items() if line_no not in commitments)
        return own + sum(changed, Decimal(0))

    def adjusted(self) -> Decimal:
        """Net, for the minimum commitment alone."""
        lines = sum((line.amount for line in self.lines), Decimal(0))
        return lines + sum((one.amount for one in self.corrected.values()), Decimal(0)) - self.usage()


def order(session: Session, *, tenant_id: UUID, month: date, reason: str, by: str, now: datetime) -> list[UUID]:
    """Draft what a tenant's final month should be corrected by; the drafts' ids.

    Of each invoice at most two: a credit note for the lines that were too high, an additional invoice for those that
    were too low. A draft that says the same already is not made twice, one that says something else is dropped; where
    nothing is left to correct but that, none is made. NothingToCorrect, DraftWaits, NotForAMachine.
    """
    found = []
    for row, changes in _of_month(session, tenant_id, month, now):
        for type in (CorrectionType.CREDIT_NOTE, CorrectionType.ADDITIONAL_INVOICE):
            explained = _explained(changes, type)
            if not explained:
                continue
            found.append(
                _open_draft(session, row.id, type, explained)
                or correction_order.order(
                    session, invoice_id=row.id, type=type, reason=reason, by=by, now=now,
                    wanted={line_no: one.amount for line_no, one in explained.items()},
                    explained=explained, rerate_no=_done(session, row.id) + 1,
                )
            )  # fmt: skip
    dropped = _drop(session, tenant_id, month, keep=found)
    if not found and not dropped:
        raise NothingToCorrect(
            f"The final invoices of {month:%B %Y} say what the price book and the code of now say; `studio invoice"
            f" rerate {month:%Y-%m} --dry-run` shows all tenants."
        )
    return found


def drop_outdated(session: Session, tenant_id: UUID, month: date, now: datetime) -> list[UUID]:
    """Drop the re-rating's drafts of a month that do not say what one would say now; their ids. None where that is
    for people to find out."""
    drafts = session.scalars(select(Correction).where(*_drafts_of(tenant_id, month))).all()
    try:
        current = [row.id for row in drafts if is_current(session, row, now)]
    except (DraftWaits, NotForAMachine):
        return []
    return _drop(session, tenant_id, month, keep=current)


def is_current(session: Session, draft: Correction, now: datetime) -> bool:
    """Whether a re-rating's draft says what one would say now. The caller holds the lock of its invoice."""
    row = session.get_one(Invoice, draft.invoice_id)
    for found, changes in _of_month(session, row.tenant_id, row.month, now):
        if found.id == row.id:
            return _stored(session, draft.id) == _explained(changes, CorrectionType(draft.type))
    return False


def _of_month(session: Session, tenant_id: UUID, month: date, now: datetime) -> list[tuple[Invoice, list[Change]]]:
    """The final invoices of a month that still bill, and what should change of each."""
    rows = session.scalars(
        select(Invoice)
        .where(Invoice.tenant_id == tenant_id, Invoice.month == month, cancelled.still_bills())
        .order_by(Invoice.drafted_at, Invoice.id)
    ).all()
    if waiting := [row for row in rows if row.state == "draft"]:
        raise DraftWaits(
            f"The draft {ids.to_wire(ids.INVOICE, waiting[0].id)} of {month:%B %Y} is open: make it final or drop it,"
            " then order this."
        )
    invoices = [_billed(session, row) for row in rows]
    now_lines = _now(session, invoices)
    commitment = terms.commitment_of(session, tenant_id, month)
    is_over = complete_months.complete(session, [TenantMonth(tenant_id, month)], now)
    used = sum((one.usage() for one in invoices), Decimal(0))
    adjusted = sum((one.adjusted() for one in invoices), Decimal(0))
    if commitment is not None and not adjusted:  # committed since, perhaps: only what prices change is corrected here
        adjusted = rules.shortfall(commitment.amount, used, Decimal(0))
    found = []
    for one in invoices:
        changes = price_changes.of_usage(one.lines, one.corrected, now_lines[one.row.id])
        if changes:
            _require_no_other_corrections(session, one.row)
        used += sum((change.amount for change in changes), Decimal(0))
        lacks = Decimal(0)
        # Also where one of two corrections is final: what it changed of the usage is not there to be changed again.
        if (changes or one.corrected) and commitment and commitment.currency == one.row.currency and is_over:
            lacks = rules.shortfall(commitment.amount, used, adjusted)
            adjusted += lacks
        found.append((one.row, price_changes.with_commitment(one.lines, one.corrected, changes, lacks)))
    return found


def _billed(session: Session, row: Invoice) -> _Billed:
    lines = session.scalars(select(InvoiceLine).where(InvoiceLine.invoice_id == row.id).order_by(InvoiceLine.line_no))
    corrected: dict[int, Corrected] = {}
    earlier = (
        select(Correction.type, CorrectionLine.line_no, CorrectionLine.amount, CorrectionLine.prices)
        .join(CorrectionLine, CorrectionLine.correction_id == Correction.id)
        .where(Correction.invoice_id == row.id, Correction.state == "final", Correction.rerate_no.is_not(None))
    )
    for type, line_no, amount, prices in session.execute(earlier):
        before = corrected.get(line_no, Corrected())
        signed = -amount if CorrectionType(type).takes_back else amount
        corrected[line_no] = Corrected(before.amount + signed, before.netted + Decimal(prices.get("netted", "0.00")))
    return _Billed(row, [_as_line(line) for line in lines], corrected)


def _as_line(line: InvoiceLine) -> Line:
    return Line(
        line_no=line.line_no, variant_id=line.variant_id, unit=line.unit, price_id=line.price_id, basis=line.basis,
        tier_from_tokens=line.tier_from_tokens, tokens=line.tokens, per_million=line.per_million, exact=line.exact,
        amount=line.amount, explanation=line.explanation, rated_line_ids=(),
    )  # fmt: skip


def _now(session: Session, invoices: Sequence[_Billed]) -> dict[UUID, list[Line]]:
    """What the usage of each invoice comes to now. Where no price of a model and unit has changed it stays as billed,
    and so does what a quote priced: that was promised."""
    counted = {one.row.id: _counted(session, one.row) for one in invoices}
    changed = {id: _changed_products(*both) for id, both in counted.items()}
    tiers = terms.tiers_of(session, {one.price_id for _, now in counted.values() for one in now})
    found: dict[UUID, list[Line]] = {}
    taken: dict[UUID, Counter[int]] = defaultdict(Counter)
    for one in invoices:  # what stays is in its tier before anything is added
        stays = [line for line in _usage(one.lines) if (line.variant_id, line.unit) not in changed[one.row.id]]
        found[one.row.id] = stays
        _take(taken, stays)
    for one in invoices:
        again = [part for part in counted[one.row.id][1] if (part.variant_id, part.unit) in changed[one.row.id]]
        quoted = [
            line
            for line in _usage(one.lines)
            if (line.variant_id, line.unit) in changed[one.row.id] and line.basis.startswith(ids.QUOTE)
        ]
        volumes = {price_id: Volume(steps, dict(taken[price_id])) for price_id, steps in tiers.items()}
        mode = RoundingMode(one.row.rounding_mode)
        currency = Currency.parse(one.row.currency)
        composed = invoice.compose(again, currency, one.row.tax_rate, volumes, rounding=mode).lines
        found[one.row.id] += [*composed, *quoted]
        _take(taken, composed)
    return found


def _counted(session: Session, row: Invoice) -> tuple[list[RatedTokens], list[RatedTokens]]:
    """The tokens of an invoice as they were rated, and as they would be now; without those of quotes."""
    rated = session.scalars(
        select(RatedLine)
        .join(InvoicedLine, InvoicedLine.rated_line_id == RatedLine.id)
        .where(InvoicedLine.invoice_id == row.id)
    ).all()
    was = [
        RatedTokens(line.id, line.variant_id, line.unit, line.price_id, line.per_million, line.tokens, line.basis)
        for line in rated
    ]
    keys = sorted({SealKey(line.window_day, line.tenant_id, line.seal_no) for line in rated})
    now = []
    for one in (part for key in keys for part in usage.count_again(session, key)):
        if one.billing_day is None or one.billing_day.replace(day=1) != row.month:  # of the neighbouring month
            continue
        if one.price_id is None or one.per_million is None:
            raise NotForAMachine(
                f"{one.tokens:,} tokens of {one.variant_id or 'an unknown model'}, {one.unit}, have not exactly one"
                " price now: set it, or correct the invoice by hand."
            )
        now.append(RatedTokens(row.id, one.variant_id, one.unit, one.price_id, one.per_million, one.tokens, one.basis))
    return _without_quotes(was), _without_quotes(now)


def _without_quotes(parts: Iterable[RatedTokens]) -> list[RatedTokens]:
    return [part for part in parts if not part.basis.startswith(ids.QUOTE)]


def _changed_products(was: Sequence[RatedTokens], now: Sequence[RatedTokens]) -> set[tuple[str | None, str]]:
    sides: list[Counter[tuple[str, str, UUID, str]]] = [Counter(), Counter()]
    for side, parts in zip(sides, (was, now), strict=True):
        for part in parts:
            side[part.variant_id, part.unit, part.price_id, part.basis] += part.tokens
    before, after = sides
    return {(key[0], key[1]) for key in before.keys() | after.keys() if before[key] != after[key]}


def _usage(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.unit not in ADJUSTMENT_NAMES]


def _take(taken: dict[UUID, Counter[int]], lines: Iterable[Line]) -> None:
    for line in lines:
        if line.price_id is not None and not line.basis:
            taken[line.price_id][line.tier_from_tokens] += line.tokens


def _require_no_other_corrections(session: Session, row: Invoice) -> None:
    others = select(Correction.number).where(*_final_of(row.id), Correction.rerate_no.is_(None))
    if number := session.scalars(others.limit(1)).first():
        raise NotForAMachine(
            f"The invoice {row.number} was corrected by hand ({number}), perhaps for the same reason: look at it, and"
            " correct what is left by hand, too (`studio invoice correct`)."
        )


def _done(session: Session, invoice_id: UUID) -> int:
    return session.scalar(select(func.coalesce(func.max(Correction.rerate_no), 0)).where(*_final_of(invoice_id))) or 0


def _final_of(invoice_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return Correction.invoice_id == invoice_id, Correction.state == "final"


def _explained(changes: Iterable[Change], type: CorrectionType) -> dict[int, Explained]:
    """The lines of a correction of this type, with amounts above zero."""
    sign = -1 if type.takes_back else 1
    return {
        change.line_no: Explained(
            abs(change.amount), price_changes.explain(change),
            {
                "rated": [_price(line) for line in change.rated],
                "now": [_price(line) for line in change.now],
                "netted": str(change.netted),
            },
        )
        for change in changes
        if change.amount * sign > 0
    }  # fmt: skip


def _price(line: Line) -> dict[str, Any]:
    price_id = None if line.price_id is None else ids.to_wire(ids.PRICE, line.price_id)
    return {
        "price_id": price_id, "basis": line.basis, "tier_from_tokens": line.tier_from_tokens, "tokens": line.tokens,
        "per_million": f"{line.per_million:f}", "amount": str(line.amount),
    }  # fmt: skip


def _stored(session: Session, correction_id: UUID) -> dict[int, Explained]:
    return {
        line.line_no: Explained(line.amount, line.explanation, line.prices)
        for line in correction_order.lines_of(session, correction_id)
    }


def _drop(session: Session, tenant_id: UUID, month: date, *, keep: Sequence[UUID]) -> list[UUID]:
    outdated = select(Correction.id).where(*_drafts_of(tenant_id, month), Correction.id.not_in(keep))
    ids_ = list(session.scalars(outdated))
    for correction_id in ids_:
        review.drop_correction(session, correction_id)
    return ids_


def _drafts_of(tenant_id: UUID, month: date) -> tuple[ColumnElement[bool], ...]:
    of_month = select(Invoice.id).where(Invoice.tenant_id == tenant_id, Invoice.month == month)
    return Correction.state == "draft", Correction.rerate_no.is_not(None), Correction.invoice_id.in_(of_month)


def _open_draft(
    session: Session, invoice_id: UUID, type: CorrectionType, explained: Mapping[int, Explained]
) -> UUID | None:
    """A draft that says just this already."""
    drafts = select(Correction.id).where(
        Correction.invoice_id == invoice_id, Correction.state == "draft", Correction.type == type,
        Correction.rerate_no.is_not(None),
    )  # fmt: skip
    return next((id for id in session.scalars(drafts).all() if _stored(session, id) == explained), None)
