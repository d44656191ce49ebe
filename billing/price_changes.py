"""From what an invoice billed to what its usage comes to now, line by line of the invoice. Pure: no database, no clock.

A line keeps its difference where the same price row, basis and tier still hold. The other lines of a model and unit
share theirs: what goes down is taken from them in their order, as far as each reaches, what goes up stands on the
first. What has no line of its own (a minimum commitment that the month lacks only now) is netted against the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.adjustments import MINIMUM_COMMITMENT
from billing.invoice import Line
from billing.rating import ADJUSTMENT_NAMES
from studio.errors import Conflict

ZERO = Decimal("0.00")


class NotForAMachine(Conflict):
    """The difference does not come from prices alone, or has no line to stand on: a person corrects it by hand."""

    default_code = "correct_by_hand"


@dataclass(frozen=True, slots=True)
class Corrected:
    """What earlier re-ratings changed of a line, and how much of that was netted from a minimum commitment."""

    amount: Decimal = ZERO
    netted: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one line of the invoice, net; below zero is taken back."""

    line_no: int
    amount: Decimal
    rated: tuple[Line, ...]
    now: tuple[Line, ...]
    netted: Decimal = ZERO  # part of the amount that comes from a minimum commitment without a line


def of_usage(billed: Sequence[Line], corrected: Mapping[int, Corrected], now: Sequence[Line]) -> list[Change]:
    """The changes of the lines of usage, adjustments left alone. NotForAMachine where a line would be missing."""
    usage = [line for line in billed if line.unit not in ADJUSTMENT_NAMES]
    products: dict[tuple[str | None, str], tuple[list[Line], list[Line]]] = defaultdict(lambda: ([], []))
    for line in usage:
        products[line.variant_id, line.unit][0].append(line)
    for line in now:
        products[line.variant_id, line.unit][1].append(line)
    found: list[Change] = []
    for (variant_id, unit), (old, new) in products.items():
        if sum(line.tokens for line in old) != sum(line.tokens for line in new):
            raise NotForAMachine(
                f"{variant_id}, {unit}: the invoice bills {sum(line.tokens for line in old):,} tokens, and"
                f" {sum(line.tokens for line in new):,} are counted now. That is no matter of prices: find out why,"
                " then correct it by hand (`studio invoice correct`)."
            )
        found += _of_product(old, corrected, new)
    return [one for one in _merged(found) if one.amount]


def with_commitment(
    billed: Sequence[Line], corrected: Mapping[int, Corrected], usage: Sequence[Change], commitment: Decimal
) -> list[Change]:
    """The changes of usage, and of what the month lacks to its minimum commitment: its own line takes it, as far as it
    goes, the rest is netted against the others in their order. NotForAMachine where neither can take it."""
    own = next((line for line in billed if line.unit == MINIMUM_COMMITMENT), None)
    changes = list(usage)
    if own is not None and commitment:
        taken = max(commitment, -_left(own, corrected))
        commitment -= taken
        changes += [Change(own.line_no, taken, (own,), ())] if taken else []
    netted = []
    for one in changes:
        # Only against the other sign, so that a correction never turns round.
        part = min(max(commitment, ZERO), -one.amount) if one.amount < 0 else max(min(commitment, ZERO), -one.amount)
        commitment -= part
        netted.append(replace(one, amount=one.amount + part, netted=part))
    if commitment:
        raise NotForAMachine(
            f"{commitment} of the minimum commitment has no line to stand on: correct the invoice by hand."
        )
    return sorted((one for one in netted if one.amount), key=lambda one: one.line_no)


def explain(change: Change) -> str:
    """In words, as it is printed beside the amount."""
    if not change.now:
        return f"the month's usage comes to {'less' if change.amount > 0 else 'more'}"
    text = f"was {_sum(change.rated)}; is {_sum(change.now)}"
    return f"{text}; {change.netted:+,.2f} for the minimum commitment" if change.netted else text


def _of_product(old: list[Line], corrected: Mapping[int, Corrected], new: list[Line]) -> Iterable[Change]:
    same = {_row(line): line for line in new}
    kept = [line for line in old if _row(line) in same]
    for line in kept:
        is_now = same.pop(_row(line))
        yield Change(line.line_no, is_now.amount - line.amount - _usage_of(line, corrected), (line,), (is_now,))
    rest, instead = [line for line in old if line not in kept], tuple(same.values())
    if not rest and not instead:
        return
    takers = rest or kept
    difference = sum((line.amount for line in instead), ZERO) - sum(
        (line.amount + _usage_of(line, corrected) for line in rest), ZERO
    )
    if difference > 0:
        yield Change(takers[0].line_no, difference, tuple(rest), instead)
        return
    for line in takers:
        part = max(difference, -_left(line, corrected))
        difference -= part
        yield Change(line.line_no, part, tuple(rest), instead)
    if difference:
        raise NotForAMachine(f"{-difference} more than is left of its lines would be taken back: correct it by hand.")


def _merged(changes: Iterable[Change]) -> list[Change]:
    """One of each line, in their order."""
    found: dict[int, Change] = {}
    for one in changes:
        before = found.get(one.line_no, Change(one.line_no, ZERO, (), ()))
        found[one.line_no] = Change(
            one.line_no, before.amount + one.amount, _united(before.rated, one.rated), _united(before.now, one.now)
        )
    return [found[line_no] for line_no in sorted(found)]


def _united(first: tuple[Line, ...], more: tuple[Line, ...]) -> tuple[Line, ...]:
    return (*first, *(line for line in more if line not in first))


def _row(line: Line) -> tuple[object, ...]:
    return line.price_id, line.basis, line.tier_from_tokens


def _usage_of(line: Line, corrected: Mapping[int, Corrected]) -> Decimal:
    before = corrected.get(line.line_no, Corrected())
    return before.amount - before.netted


def _left(line: Line, corrected: Mapping[int, Corrected]) -> Decimal:
    return max(line.amount + corrected.get(line.line_no, Corrected()).amount, ZERO)


def _sum(lines: Iterable[Line]) -> str:
    return " + ".join(f"{line.explanation} = {line.amount:,.2f}" for line in lines)
