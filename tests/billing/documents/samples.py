"""Snapshots of every kind, as the rows of an invoice would give them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from billing import payment_reference, rating
from billing.documents.snapshot import EuroTax, Line, Original, Snapshot
from billing.tax import in_euro
from studio.money import CENT

SELLER = {
    "name": "XPULINK Demo GmbH", "country": "DE", "street": "Beispielstrasse 1", "postcode": "10115",
    "city": "Berlin", "country_name": "Germany", "vat_id": "DE999999999", "tax_number": "27/000/00000",
    "register": "Amtsgericht Charlottenburg, HRB 000000", "directors": "Erika Mustermann",
    "email": "billing@example.com", "phone": "+49 30 0000000", "bank": "Demo Bank",
    "iban": "DE02120300000000202051", "bic": "BYLADEM1001",
}  # fmt: skip
CHINESE_SELLER = {
    "name": "XPULINK Demo (Shanghai) Co., Ltd.", "country": "CN", "street": "1 Example Road", "postcode": "200000",
    "city": "Shanghai", "country_name": "China", "tax_number": "91310000MA0000000Y", "email": "billing@example.com",
    "phone": "+86 21 00000000", "bank": "Demo Bank Shanghai", "account": "0000 0000 0000 0000",
    "fapiao_drawer": "Demo", "fapiao_tax_code": "3040201990000000000",
}  # fmt: skip
GERMAN = {
    "name": "Kunde AG", "street": "Weg 2", "postcode": "20095", "city": "Hamburg", "country": "DE",
    "vat_id": "DE136695976", "email": "rechnung@kunde.example",
}  # fmt: skip
FRENCH = {
    "name": "Client SARL", "street": "3 rue de la Paix", "postcode": "75002", "city": "Paris", "country": "FR",
    "vat_id": "FR40303265045",
}  # fmt: skip
CHINESE = {
    "name": "上海示例科技有限公司", "street": "世纪大道 100 号", "postcode": "200120", "city": "上海", "country": "CN",
    "email": "caiwu@example.cn", "tax_number": "91310000MA0000000Y",
}  # fmt: skip
PERIOD = (date(2026, 10, 1), date(2026, 10, 31))
NUMBER = "XDE-2026-000001"


def line(line_no: int = 1, quantity: int = 200_000_000, price: str = "0.02", **changes: Any) -> Line:
    """A line of tokens; its amount follows from quantity and price."""
    amount = (rating.rate(abs(quantity), Decimal(price))).quantize(CENT, ROUND_HALF_UP)
    values: dict[str, Any] = {
        "line_no": line_no, "product": "Chat, base", "unit": "prompt", "quantity": quantity, "price": Decimal(price),
        "base": 1_000_000, "amount": amount, "explanation": f"{quantity:,} prompt tokens x {price} / 1,000,000",
        "period_from": PERIOD[0], "period_until": PERIOD[1],
    }  # fmt: skip
    return Line(**(values | changes))


LINES = (
    line(1),
    line(2, 50_000_123, "0.0375", unit="completion", period_from=date(2026, 10, 5)),
    line(3, 9_876_543_210, "0.123456", unit="cached_prompt"),
)


def snapshot(**changes: Any) -> Snapshot:
    """A domestic invoice; net, tax and the rest follow from its lines unless they are given."""
    lines = changes.setdefault("lines", LINES)
    rate = changes.setdefault("tax_rate", Decimal("0.1900"))
    net = changes.setdefault("net", sum((one.amount for one in lines), Decimal("0.00")))
    tax = changes.setdefault("tax", (net * rate).quantize(CENT, ROUND_HALF_UP))
    gross = changes.setdefault("gross", net + tax)
    prepaid = changes.setdefault("prepaid", Decimal("0.00"))
    due = changes.setdefault("due", gross - prepaid)
    values: dict[str, Any] = {
        "id": "inv_" + "0" * 32, "tenant": "tnt_" + "0" * 32, "type": "380", "number": NUMBER,
        "issued_on": date(2026, 11, 2), "due_on": date(2026, 11, 16) if due > 0 else None, "period_from": PERIOD[0],
        "period_until": PERIOD[1], "time_zone": "Europe/Berlin", "currency": "EUR",
        "seller": SELLER, "buyer": GERMAN, "buyer_reference": "kunde",
        "tax_category": "S", "exemption_code": None, "exemption_reason": None, "euro_tax": None,
        "payment_reference": payment_reference.of_invoice(NUMBER) if due > 0 else None, "original": None,
    }  # fmt: skip
    return Snapshot(**(values | changes))


def reverse_charge(**changes: Any) -> Snapshot:
    """To a business in another member state."""
    exempt = {
        "tax_category": "AE", "tax_rate": Decimal("0.0000"), "buyer": FRENCH, "exemption_code": "VATEX-EU-AE",
        "exemption_reason": "Reverse charge / Steuerschuldnerschaft des Leistungsempfängers",
    }  # fmt: skip
    return snapshot(**(exempt | changes))


def third_country(category: str = "G", **changes: Any) -> Snapshot:
    """To a business outside the EU."""
    exempt = {
        "tax_category": category, "tax_rate": Decimal("0.0000"), "buyer": CHINESE,
        "exemption_code": f"VATEX-EU-{category}",
        "exemption_reason": "Not taxable in Germany / Nicht im Inland steuerbare Leistung (§ 3a Abs. 2 UStG)",
    }  # fmt: skip
    return snapshot(**(exempt | changes))


def in_yuan(**changes: Any) -> Snapshot:
    """In CNY with German VAT, which the tax office wants in EUR."""
    plain = snapshot(currency="CNY", **changes)
    rate = Decimal("7.4883")
    return replace(plain, euro_tax=EuroTax(in_euro(plain.tax, rate), rate, PERIOD[0], "ECB", "mean of 22 days"))


def correction(type: str = "381", amount: str = "1.00", **changes: Any) -> Snapshot:
    """Of the first line of `snapshot()`."""
    sign = -1 if type == "384" else 1
    one = line(
        1, price=amount, quantity=sign, base=1, amount=sign * Decimal(amount), invoiced=Decimal("4.00"),
        explanation=f"Line 1 of invoice {NUMBER}",
    )  # fmt: skip
    whole = snapshot()
    original = Original(NUMBER, whole.issued_on, "price was wrong", whole.net, whole.tax)
    values: dict[str, Any] = {
        "id": "cor_" + "0" * 32, "type": type, "number": "XDE-C-2026-000001", "lines": (one,),
        "due_on": None, "payment_reference": None, "original": original,
    }  # fmt: skip
    if type == "380":
        values |= {"due_on": date(2026, 11, 16), "payment_reference": payment_reference.of_invoice("XDE-C-2026-000001")}
    return snapshot(**(values | changes))


SAMPLES = {
    "domestic": snapshot(),
    "prepaid": snapshot(prepaid=Decimal("5.00")),
    "wholly prepaid": snapshot(lines=(line(1),), prepaid=Decimal("4.76")),
    "reverse charge": reverse_charge(),
    "third country G": third_country("G"),
    "third country O": third_country("O"),
    "yuan": in_yuan(),
    "credit note": correction("381"),
    "cancellation": correction("384"),
    "additional invoice": correction("380"),
}
CHINESE_INVOICE = snapshot(
    seller=CHINESE_SELLER, buyer=CHINESE, currency="CNY", tax_rate=Decimal("0.0600"), time_zone="Asia/Shanghai"
)
