"""The request for a fapiao: what issuing services ask for, and nothing that they would refuse."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.documents import fapiao
from tests.billing.documents.samples import CHINESE, CHINESE_INVOICE, CHINESE_SELLER, correction, line, snapshot

CHINA: dict[str, Any] = {
    "seller": CHINESE_SELLER, "buyer": CHINESE, "currency": "CNY", "tax_rate": Decimal("0.0600"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0.00", "零圆整"), ("0.05", "伍分"), ("0.50", "伍角整"), ("10.00", "壹拾圆整"),
        ("1234.50", "壹仟贰佰叁拾肆圆伍角整"),
        ("10005.06", "壹万零伍圆零陆分"), ("107000.53", "壹拾万柒仟圆伍角叁分"), ("20000000.10", "贰仟万圆壹角整"),
        ("100010000.00", "壹亿零壹万圆整"), ("1000000000000.00", "壹万亿圆整"),
        ("1234500000000.00", "壹万贰仟叁佰肆拾伍亿圆整"),
    ],
)  # fmt: skip
def test_sums_in_characters_that_cannot_be_altered(amount: str, words: str) -> None:
    assert fapiao.in_capitals(Decimal(amount)) == words


@given(st.decimals("0", "9999999999999999", places=2), st.decimals("0", "9999999999999999", places=2))
def test_two_sums_never_read_the_same(one: Decimal, other: Decimal) -> None:
    assert (fapiao.in_capitals(one) == fapiao.in_capitals(other)) == (one == other)


def test_a_request_is_clean_the_same_each_time_and_says_that_it_is_no_fapiao() -> None:
    file = fapiao.write(CHINESE_INVOICE)
    assert file == fapiao.write(CHINESE_INVOICE)
    body = json.loads(file)
    assert (body["notice"], body["requestNo"], body["invoiceKind"]) == ("本文件不是发票", "XPUXDE2026000001", "81")
    assert (body["totalNet"], body["totalTax"], body["totalAmount"]) == ("1225.20", "73.51", "1298.71")
    assert body["totalAmountCapital"] == "壹仟贰佰玖拾捌圆柒角壹分"
    assert fapiao.of_request(CHINESE_INVOICE, file) == []


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=8))
def test_the_tax_of_rows_sums_to_the_invoices(tokens: list[int]) -> None:
    lines = tuple(line(number, count, "0.0375") for number, count in enumerate(tokens, start=1))
    content = snapshot(lines=lines, **CHINA)
    assert fapiao.of_request(content, fapiao.write(content)) == []


@pytest.mark.parametrize(
    ("buyer", "rule"),
    [
        ({"tax_number": "91310000MA0000000X"}, "FAPIAO-TAX-NUMBER"),  # check character
        ({"tax_number": "abc"}, "FAPIAO-TAX-NUMBER"),
        ({"tax_number": None, "fapiao_kind": "81"}, "FAPIAO-TAX-NUMBER"),  # a special one needs it
        ({"name": "上" * 51}, "FAPIAO-FIELD-FITS"),  # 102 bytes in GBK
        ({"street": "路" * 50}, "FAPIAO-FIELD-FITS"),
    ],
)
def test_what_an_issuing_service_would_refuse_is_named(buyer: dict[str, Any], rule: str) -> None:
    content = snapshot(**(CHINA | {"buyer": {**CHINESE, **buyer}}))
    assert {broken.rule for broken in fapiao.of_request(content, fapiao.write(content))} == {rule}


def test_a_name_of_exactly_the_limit_fits() -> None:
    content = snapshot(**(CHINA | {"buyer": {**CHINESE, "name": "上" * 50}}))
    assert fapiao.of_request(content, fapiao.write(content)) == []


def test_a_changed_sum_is_found() -> None:
    body = json.loads(fapiao.write(CHINESE_INVOICE))
    for name in ("totalNet", "totalTax", "totalAmount"):
        changed = body | {name: "1.00"}
        broken = fapiao.of_request(CHINESE_INVOICE, json.dumps(changed).encode())
        assert name in {one.where for one in broken}


def test_a_correction_is_a_red_letter_that_names_its_request() -> None:
    content = correction("381", **CHINA)
    body = json.loads(fapiao.write(content))
    assert (body["invoiceType"], body["original"]["requestNo"]) == ("red", "XPUXDE2026000001")
    assert body["original"]["fapiaoNo"] is None  # whoever issued it knows
    assert fapiao.of_request(content, fapiao.write(content)) == []
