"""The reference on a transfer names one invoice, and a mistyped one names none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import payment_reference


@given(st.from_regex(r"\A[A-Z]{3}-20[0-9]{2}-[0-9]{6}\Z"))
def test_a_reference_reads_back_however_it_is_written(number: str) -> None:
    reference = payment_reference.of_invoice(number)
    groups = " ".join(reference[i : i + 4] for i in range(0, len(reference), 4))
    assert payment_reference.parse(groups.lower()) == reference
    assert reference.endswith(number.replace("-", ""))


def test_a_mistyped_digit_is_noticed() -> None:
    reference = payment_reference.of_invoice("XDE-2026-000001")
    assert payment_reference.parse(reference[:-1] + "2") is None
    assert payment_reference.parse("thank you for the good service") is None


@pytest.mark.parametrize("number", ["", "--", "X" * 22])
def test_a_number_that_fits_no_reference_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        payment_reference.of_invoice(number)
