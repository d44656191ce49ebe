"""Correcting a final invoice: what is left of it, and the figures of a correction. Pure: no database, no clock.

Amounts are positive, the type carries the sign. The last correction of a line, and the last of all, takes the
remainder: an invoice that is wholly taken back leaves nothing, in no account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from billing import tax
from studio.errors import Conflict, InvalidRequest
from studio.money import CENT, Currency, Money, RoundingMode


class OverCorrection(Conflict):
    """More would be taken back than is left of the invoice."""

    default_code = "over_correction"


class CorrectionType(StrEnum):
    """UNTDID 1001, as e-invoices write it."""

    ADDITIONAL_INVOICE = "380"
    CREDIT_NOTE = "381"
    CANCELLATION = "384"

    @property
    def takes_back(self) -> bool:
        """Whether the customer owes less by it."""
        return self is not CorrectionType.ADDITIONAL_INVOICE


@dataclass(frozen=True, slots=True)
class LineLeft:
    """What a line of an invoice comes to after all final corrections, exact and as printed."""

    line_no: int
    exact: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Left:
    """What an invoice comes to after all final corrections."""

    currency: Currency
    tax_rate: Decimal
    tax: Decimal
    lines: tuple[LineLeft, ...]
    rounding: RoundingMode = RoundingMode.HALF_UP  # the invoice's


@dataclass(frozen=True, slots=True)
class CorrectionLine:
    """What happens to one line. `exact` differs from `amount` only where the whole line is taken back."""

    line_no: int
    exact: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a correction; `gross` is `net + tax`."""

    lines: tuple[CorrectionLine, ...]
    net: Decimal
    tax: Decimal
    gross: Decimal


def compose(left: Left, type: CorrectionType, wanted: Mapping[int, Decimal]) -> Figures:
    """The figures of a correction that takes back, or adds, `wanted` net amounts by line number.

    A cancellation wants nothing: it takes all that is left. OverCorrection, or InvalidRequest for amounts and lines
    that cannot be.
    """
    lines_left = {line.line_no: line for line in left.lines}
    if type is CorrectionType.CANCELLATION:
        if wanted:
            raise InvalidRequest("A cancellation takes back the whole invoice: name no lines.", param="lines")
        wanted = {line.line_no: line.amount for line in left.lines if line.amount}
    _require_possible(lines_left, type, wanted)
    taken = {line_no: _line(lines_left[line_no], type, amount) for line_no, amount in wanted.items()}
    if type is CorrectionType.CANCELLATION:  # also what was so little that it was rounded to nothing
        taken |= {
            line.line_no: CorrectionLine(line.line_no, line.exact, line.amount) for line in left.lines if line.exact
        }
    lines = tuple(taken[line_no] for line_no in sorted(taken))
    net = sum((line.amount for line in lines), Decimal("0.00"))
    tax_amount = _tax(left, type, net)
    return Figures(lines, net, tax_amount, net + tax_amount)


def after(left: Left, type: CorrectionType, figures: Figures) -> Left:
    """What is left when a correction has become final."""
    sign = -1 if type.takes_back else 1
    changes = {line.line_no: line for line in figures.lines}
    lines = tuple(
        LineLeft(line.line_no, line.exact + sign * change.exact, line.amount + sign * change.amount)
        if (change := changes.get(line.line_no)) is not None
        else line
        for line in left.lines
    )
    return replace(left, tax=left.tax + sign * figures.tax, lines=lines)


def net_left(left: Left) -> Decimal:
    """The sum of the lines as printed."""
    return sum((line.amount for line in left.lines), Decimal("0.00"))


def _require_possible(lines_left: Mapping[int, LineLeft], type: CorrectionType, wanted: Mapping[int, Decimal]) -> None:
    if not wanted:
        if type is CorrectionType.CANCELLATION:
            raise OverCorrection("Nothing is left of the invoice that could be cancelled.")
        raise InvalidRequest("Name at least one line and its amount.", param="lines")
    for line_no, amount in wanted.items():
        if line_no not in lines_left:
            raise InvalidRequest(f"The invoice has no line {line_no}.", param="lines")
        if type is not CorrectionType.CANCELLATION and (amount <= 0 or amount != amount.quantize(CENT)):
            raise InvalidRequest(f"{amount} is no amount: use more than zero, with two decimals.", param="lines")
        if type.takes_back and amount > lines_left[line_no].amount:
            raise OverCorrection(
                f"Only {lines_left[line_no].amount} is left of line {line_no}, so {amount} cannot be taken back."
            )


def _line(line: LineLeft, type: CorrectionType, amount: Decimal) -> CorrectionLine:
    is_rest = type.takes_back and amount == line.amount
    return CorrectionLine(line.line_no, line.exact if is_rest else amount, amount.quantize(CENT))


def _tax(left: Left, type: CorrectionType, net: Decimal) -> Decimal:
    """Tax on the correction as anybody would recompute it; what is left of it at most, and all of it at the end."""
    own = tax.tax_on(Money(net, left.currency), left.tax_rate, left.rounding).amount
    if not type.takes_back:
        return own
    return left.tax if net == net_left(left) else min(own, left.tax)


def left_after(original: Left, corrections: Sequence[tuple[CorrectionType, Figures]]) -> Left:
    """What is left of an invoice after its corrections, in any order."""
    for type, figures in corrections:
        original = after(original, type, figures)
    return original
