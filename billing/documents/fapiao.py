"""What a Chinese company gives to whoever issues its fapiao: a request as JSON. It is no fapiao itself, and says so.

Fields and limits are those of issuing services' public interfaces. Lengths count in GBK bytes, where a Chinese
character has two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from stdnum.cn import uscc

from billing.documents.invariants import Broken
from billing.documents.snapshot import CANCELLATION, CREDIT_NOTE, Line, Snapshot
from billing.rating import LINE_NAMES
from studio.money import CENT

SPECIAL, GENERAL = "81", "82"  # 数电专票, 数电普票
NOT_A_FAPIAO = "本文件不是发票"
_MOST_LINES = 2000
_MOST_BYTES = 100
_TAX_NUMBER = re.compile(r"^[0-9A-Z]{15,20}$")
_DIGITS = "零壹贰叁肆伍陆柒捌玖"
_PLACES = ("", "拾", "佰", "仟")
_GROUPS = ("", "万", "亿", "万亿")


def is_wanted(snapshot: Snapshot) -> bool:
    """Only a Chinese taxpayer can have a fapiao issued, and only for yuan."""
    return bool(snapshot.seller.get("country") == "CN" and snapshot.currency == "CNY")


def request_number(snapshot: Snapshot) -> str:
    """The same for the same invoice, so that sending it twice issues one fapiao."""
    return "XPU" + re.sub(r"[^0-9A-Z]", "", snapshot.number.upper())


def write(snapshot: Snapshot) -> bytes:
    """The file. A correction is a red-letter request, which names the request that it takes back."""
    seller, buyer = snapshot.seller, snapshot.buyer
    kind = str(buyer.get("fapiao_kind") or (SPECIAL if buyer.get("tax_number") else GENERAL))
    body: dict[str, Any] = {
        "notice": NOT_A_FAPIAO,
        "requestNo": request_number(snapshot),
        "invoiceType": "red" if snapshot.type in (CREDIT_NOTE, CANCELLATION) else "blue",
        "invoiceKind": kind,
        "taxIncluded": False,
        "sellerTaxNo": seller.get("tax_number"),
        "sellerName": seller["name"],
        "sellerAddressPhone": _joined(seller, ("city", "street", "phone")),
        "sellerBankAccount": _joined(seller, ("bank", "account")),
        "buyerType": "business" if buyer.get("tax_number") else "person",
        "buyerName": buyer["name"],
        "buyerTaxNo": buyer.get("tax_number"),
        "buyerAddressPhone": _joined(buyer, ("city", "street", "phone")),
        "buyerBankAccount": _joined(buyer, ("bank", "account")),
        "buyerEmail": buyer.get("email"),
        "drawer": seller.get("fapiao_drawer"),
        "remark": f"{snapshot.number} {snapshot.period_from} - {snapshot.period_until}",
        "lines": _lines(snapshot),
        "totalNet": f"{snapshot.net:.2f}",
        "totalTax": f"{snapshot.tax:.2f}",
        "totalAmount": f"{snapshot.gross:.2f}",
        "totalAmountCapital": in_capitals(abs(snapshot.gross)),
    }
    if snapshot.original is not None:
        original = "XPU" + re.sub(r"[^0-9A-Z]", "", snapshot.original.number.upper())
        # Its number is known to whoever issued it; a red letter needs their confirmation first (红字确认单).
        body["original"] = {"requestNo": original, "fapiaoNo": None, "redConfirmation": None}
    return json.dumps(body, ensure_ascii=False, indent=1).encode()


def of_request(snapshot: Snapshot, file: bytes) -> list[Broken]:
    """What an issuing service would refuse, and sums that are not the invoice's."""
    body = json.loads(file)
    broken = [
        *(Broken("FAPIAO-FIELD-IS-THERE", name, "is empty") for name in _REQUIRED if not body.get(name)),
        *(
            Broken("FAPIAO-FIELD-FITS", name, f"{_gbk_bytes(body[name])} bytes in GBK, {_MOST_BYTES} at most")
            for name in _LIMITED
            if body.get(name) and _gbk_bytes(body[name]) > _MOST_BYTES
        ),
        *_tax_numbers(body),
    ]
    if len(body["lines"]) > _MOST_LINES:
        broken.append(Broken("FAPIAO-LINES-FIT", "lines", f"{len(body['lines'])}, {_MOST_LINES} at most"))
    for name, key, right in (
        ("totalNet", "net", snapshot.net),
        ("totalTax", "tax", snapshot.tax),
    ):
        summed = sum((Decimal(line[key]) for line in body["lines"]), Decimal("0.00"))
        if not Decimal(body[name]) == summed == right:
            broken.append(
                Broken("FAPIAO-SUMS-ARE-THE-INVOICES", name, f"{body[name]}, lines {summed}, invoice {right}")
            )
    if Decimal(body["totalAmount"]) != snapshot.gross:
        broken.append(Broken("FAPIAO-SUMS-ARE-THE-INVOICES", "totalAmount", body["totalAmount"]))
    return broken


def in_capitals(amount: Decimal) -> str:
    """A sum in the characters that cannot be altered: 1234.50 -> 壹仟贰佰叁拾肆圆伍角整. Up to 16 digits of yuan."""
    fen = int((amount.quantize(CENT, ROUND_HALF_UP) * 100).to_integral_value())
    yuan, jiao, fen = fen // 100, fen // 10 % 10, fen % 10
    if yuan >= 10**16:
        raise ValueError(f"{amount} is too much for capital characters")
    words = f"{_whole(yuan)}圆" if yuan or not (jiao or fen) else ""
    if jiao:
        words += f"{_DIGITS[jiao]}角"
    elif fen and yuan:
        words += "零"
    return words + (f"{_DIGITS[fen]}分" if fen else "整")


def _whole(yuan: int) -> str:
    if yuan == 0:
        return _DIGITS[0]
    words, zero_before = "", False
    for power in range(len(_GROUPS) - 1, -1, -1):
        group = yuan // 10 ** (4 * power) % 10**4
        if group == 0:
            zero_before = zero_before or bool(words)
            continue
        if words and (zero_before or group < 1000):
            words += _DIGITS[0]
        hundred_millions = yuan // 10**8 % 10**4
        words += _four(group) + ("万" if power == 3 and hundred_millions else _GROUPS[power])  # 壹万贰仟亿
        zero_before = False
    return words


def _four(group: int) -> str:
    """One to four digits; a run of zeros inside is said once, at the end not at all."""
    words, zero_before = "", False
    for power in (3, 2, 1, 0):
        digit = group // 10**power % 10
        if digit == 0:
            zero_before = bool(words)
            continue
        words += (_DIGITS[0] if zero_before else "") + _DIGITS[digit] + _PLACES[power]
        zero_before = False
    return words


def _lines(snapshot: Snapshot) -> list[dict[str, Any]]:
    """One row a line. Tax per row is rounded; the last row takes what is left, so that they sum to the invoice's."""
    rows = []
    tax_left = snapshot.tax
    for position, line in enumerate(snapshot.lines, start=1):
        is_last = position == len(snapshot.lines)
        tax = tax_left if is_last else (line.amount * snapshot.tax_rate).quantize(CENT, ROUND_HALF_UP)
        tax_left -= tax
        rows.append(_row(snapshot, line, tax))
    return rows


def _row(snapshot: Snapshot, line: Line, tax: Decimal) -> dict[str, Any]:
    return {
        "taxClassificationCode": snapshot.seller.get("fapiao_tax_code"),
        "name": f"*信息技术服务*{line.product} {LINE_NAMES[line.unit]}",
        "unit": "百万Token" if line.base != 1 else "项",
        "quantity": f"{(Decimal(line.quantity) / line.base).normalize():f}",
        "price": f"{line.price.normalize():f}",
        "net": f"{line.amount:.2f}",
        "taxRate": f"{snapshot.tax_rate:.2f}",
        "tax": f"{tax:.2f}",
    }


_REQUIRED = ("requestNo", "sellerTaxNo", "sellerName", "buyerName", "drawer", "lines")
_LIMITED = (
    *("sellerName", "sellerAddressPhone", "sellerBankAccount"),
    *("buyerName", "buyerAddressPhone", "buyerBankAccount"),
)


def _tax_numbers(body: Mapping[str, Any]) -> list[Broken]:
    broken = []
    for name in ("sellerTaxNo", "buyerTaxNo"):
        number = body.get(name)
        if not number:
            if name == "buyerTaxNo" and body["invoiceKind"] == SPECIAL:
                broken.append(Broken("FAPIAO-TAX-NUMBER", name, "a special fapiao needs the buyer's"))
        elif not _TAX_NUMBER.match(number):
            broken.append(Broken("FAPIAO-TAX-NUMBER", name, f"{number!r}: 15 to 20 capitals and digits"))
        elif len(number) == 18 and not uscc.is_valid(number):
            broken.append(Broken("FAPIAO-TAX-NUMBER", name, f"the check character of {number} is wrong"))
    return broken


def _gbk_bytes(text: str) -> int:
    """GB18030 for what GBK lacks: longer, so never an underestimate."""
    return len(text.encode("gb18030"))


def _joined(party: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return " ".join(str(party[name]) for name in names if party.get(name))
