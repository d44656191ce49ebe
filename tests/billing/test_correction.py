"""The figures of corrections: never more is taken back than there is, and in the end nothing is left."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import correction
from billing.correction import CorrectionType, Left, LineLeft, OverCorrection
from billing.tax import tax_on
from studio.errors import InvalidRequest
from studio.money import CENT, Currency, Money, RoundingMode

CREDIT, CANCEL, ADD = CorrectionType.CREDIT_NOTE, CorrectionType.CANCELLATION, CorrectionType.ADDITIONAL_INVOICE
exact_amounts = st.decimals("0.000000000001", 100, places=12)


def invoice(exact: list[Decimal], rate: str = "0.1900", mode: RoundingMode = RoundingMode.HALF_UP) -> Left:
    lines = tuple(
        LineLeft(n, amount, Money(amount, Currency.EUR).rounded(mode).amount) for n, amount in enumerate(exact, start=1)
    )
    net = Money(sum((line.amount for line in lines), Decimal("0.00")), Currency.EUR)
    return Left(Currency.EUR, Decimal(rate), tax_on(net, Decimal(rate), mode).amount, lines, mode)


lefts = st.builds(
    invoice,
    st.lists(exact_amounts, min_size=1, max_size=5),
    st.sampled_from(["0.1900", "0.0600", "0"]),
    st.sampled_from(RoundingMode),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Left, list[tuple[CorrectionType, correction.Figures]]]:
    """An invoice, and credits and additions to it that were possible at their time."""
    original = left = draw(lefts)
    done = []
    for _ in range(draw(st.integers(0, 6))):
        type = draw(st.sampled_from([CREDIT, CREDIT, ADD]))
        possible = [line for line in left.lines if type is ADD or line.amount]
        if possible:
            line = draw(st.sampled_from(possible))
            top = Decimal(50) if type is ADD else line.amount
            wanted = {line.line_no: draw(st.decimals(CENT, top, places=2))}
            figures = correction.compose(left, type, wanted)
            left = correction.after(left, type, figures)
            done.append((type, figures))
    return original, done


@given(histories())
def test_nothing_becomes_negative_and_a_cancellation_leaves_nothing_at_all(
    history: tuple[Left, list[tuple[CorrectionType, correction.Figures]]],
) -> None:
    left = correction.left_after(*history)
    assert left.tax >= 0
    assert all(line.amount >= 0 and line.exact >= 0 for line in left.lines)
    if correction.net_left(left):
        figures = correction.compose(left, CANCEL, {})
        left = correction.after(left, CANCEL, figures)
        assert figures.gross == figures.net + figures.tax
        assert left.tax == 0
        assert all(line.amount == line.exact == 0 for line in left.lines)


@given(histories())
def test_tax_is_what_anybody_recomputes_up_to_what_rounding_has_left(
    history: tuple[Left, list[tuple[CorrectionType, correction.Figures]]],
) -> None:
    original, done = history
    for n, (type, figures) in enumerate(done):
        own = tax_on(Money(figures.net, Currency.EUR), original.tax_rate, original.rounding).amount
        is_rest = type is CREDIT and correction.net_left(correction.left_after(original, done[: n + 1])) == 0
        assert figures.gross == figures.net + figures.tax
        assert abs(figures.tax - own) <= CENT * (n + 1)
        if not is_rest and type is ADD:
            assert figures.tax == own


def test_the_last_credit_takes_the_cent_that_rounding_left() -> None:
    left = invoice([Decimal("1.50"), Decimal("1.50"), Decimal("1.50")])  # 19 % of 1.50 is 0.285, of 4.50 it is 0.855
    taxes = []
    for line_no in (1, 2, 3):
        figures = correction.compose(left, CREDIT, {line_no: Decimal("1.50")})
        left = correction.after(left, CREDIT, figures)
        taxes.append(figures.tax)
    assert taxes == [Decimal("0.29"), Decimal("0.29"), Decimal("0.28")]
    assert left.tax == 0


def test_the_rest_of_a_line_takes_its_rounding_with_it() -> None:
    left = invoice([Decimal("4.000001400000")])
    part = correction.compose(left, CREDIT, {1: Decimal("3.00")})
    rest = correction.compose(correction.after(left, CREDIT, part), CREDIT, {1: Decimal("1.00")})
    assert [line.exact for line in (*part.lines, *rest.lines)] == [Decimal("3.00"), Decimal("1.000001400000")]


@pytest.mark.parametrize("type", [CREDIT])
def test_more_than_is_left_is_refused_with_what_is_left(type: CorrectionType) -> None:
    left = invoice([Decimal("2.00"), Decimal("1.00")])
    left = correction.after(left, CREDIT, correction.compose(left, CREDIT, {1: Decimal("1.50")}))
    with pytest.raises(OverCorrection, match=r"Only 0\.50 is left of line 1, so 0\.51 cannot be taken back"):
        correction.compose(left, type, {1: Decimal("0.51")})


def test_what_was_cancelled_is_not_cancelled_again() -> None:
    left = invoice([Decimal("2.00")])
    left = correction.after(left, CANCEL, correction.compose(left, CANCEL, {}))
    with pytest.raises(OverCorrection, match="Nothing is left"):
        correction.compose(left, CANCEL, {})


@pytest.mark.parametrize(
    ("type", "wanted", "words"),
    [
        (CREDIT, {}, "at least one line"),
        (ADD, {}, "at least one line"),
        (CREDIT, {9: Decimal(1)}, "no line 9"),
        (CREDIT, {1: Decimal(0)}, "no amount"),
        (ADD, {1: Decimal(-1)}, "no amount"),
        (CREDIT, {1: Decimal("0.001")}, "no amount"),
        (CANCEL, {1: Decimal(1)}, "name no lines"),
    ],
)
def test_what_makes_no_sense_is_refused(type: CorrectionType, wanted: dict[int, Decimal], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        correction.compose(invoice([Decimal("2.00")]), type, wanted)
