"""What e-invoices must say: each business term (BT) of a snapshot, text or attribute, without the code that writes it.

Nothing that `cii.py` and `ubl.py` write is left out (a test corrupts each bit), so no change stays unseen.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from billing.documents import parties, terms
from billing.documents.reading import AMOUNTS, LINE_AMOUNTS, Facts, is_day
from billing.documents.snapshot import CREDIT_NOTE, Line, Snapshot
from billing.documents.xml_text import percent

PIECE = "C62"
_CII_RULES = "urn:cen.eu:en16931:2017"
_UBL_RULES = "urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0"
_UBL_PROCESS = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"


def of_cii(snapshot: Snapshot) -> Facts:
    """The terms of a CII file."""
    facts = _facts(snapshot) | {"BT-24 rules": _CII_RULES} | _tax_ids(snapshot, "VA", "FC")
    return facts | {f"{name}, format": "102" for name in facts if is_day(name)}


def of_ubl(snapshot: Snapshot) -> Facts:
    """The terms of a UBL file. A UBL credit note has no place for a due date."""
    facts = _facts(snapshot) | {
        "BT-23 process": _UBL_PROCESS,
        "BT-24 rules": _UBL_RULES,
        "BT-28 seller's trading name": str(snapshot.seller["name"]),
        "BT-45 buyer's trading name": str(snapshot.buyer["name"]),
        **_tax_ids(snapshot, "VAT", "FC"),
    }
    if snapshot.type == CREDIT_NOTE:
        facts.pop("BT-9 due on", None)
    amounts = [*AMOUNTS, *(f"line {line.line_no} {name}" for line in snapshot.lines for name in LINE_AMOUNTS)]
    return facts | {f"{name}, currency": snapshot.currency for name in amounts if name in facts}


def _tax_ids(snapshot: Snapshot, vat: str, tax: str) -> Facts:
    """Which kinds of tax id each side has."""
    has_vat = snapshot.tax_category != "O"
    seller = [vat] if has_vat and snapshot.seller.get("vat_id") else []
    if snapshot.seller.get("tax_number"):
        seller.append(tax)
    buyer = [vat] if has_vat and snapshot.buyer.get("vat_id") else []
    kinds = {"seller's kinds of tax id": "|".join(seller), "buyer's kinds of tax id": "|".join(buyer)}
    return {name: found for name, found in kinds.items() if found}


def _facts(snapshot: Snapshot) -> Facts:
    """What both syntaxes say, as text."""
    seller, buyer = snapshot.seller, snapshot.buyer
    euro, original, is_outside = snapshot.euro_tax, snapshot.original, snapshot.tax_category == "O"
    found: dict[str, object] = {
        "BT-1 number": snapshot.number,
        "BT-2 issued on": snapshot.issued_on,
        "BT-3 type": snapshot.type,
        "BT-5 currency": snapshot.currency,
        "BT-6 tax currency": "EUR" if euro else None,
        "BT-9 due on": snapshot.due_on,
        "BT-10 buyer reference": snapshot.buyer_reference,
        "BT-25 original": original.number if original else None,
        "BT-27 seller": snapshot.seller["name"],
        "BT-31 seller's VAT id": None if is_outside else snapshot.seller.get("vat_id"),
        "BT-44 buyer": snapshot.buyer["name"],
        "BT-48 buyer's VAT id": None if is_outside else snapshot.buyer.get("vat_id"),
        "BT-73 period from": snapshot.period_from,
        "BT-74 period until": snapshot.period_until,
        "BT-83 payment reference": snapshot.payment_reference,
        "BT-84 IBAN": snapshot.seller.get("iban"),
        "BT-106 sum of lines": snapshot.net,
        "BT-109 net": snapshot.net,
        "BT-110 VAT": snapshot.tax,
        "BT-111 VAT in EUR": euro.amount if euro else None,
        "BT-112 gross": snapshot.gross,
        "BT-113 prepaid": snapshot.prepaid or None,
        "BT-115 due": snapshot.due,
        "BT-116 VAT basis": snapshot.net,
        "BT-117 VAT of group": snapshot.tax,
        "BT-118 VAT category": snapshot.tax_category,
        "BT-119 VAT rate": percent(snapshot.tax_rate),
        "BT-120 exemption reason": snapshot.exemption_reason,
        "BT-121 exemption code": snapshot.exemption_code,
        "BT-20 payment terms": terms.payment_terms(snapshot),
        "BT-22 note": terms.note(snapshot),
        "BT-26 original issued on": original.issued_on if original else None,
        "BT-30 seller's register": seller.get("register"),
        "BT-32 seller's tax number": seller.get("tax_number"),
        "BT-35 seller's street": seller.get("street"),
        "BT-37 seller's city": seller.get("city"),
        "BT-38 seller's postcode": seller.get("postcode"),
        "BT-40 seller's country": seller["country"],
        "BT-41 contact": seller.get("contact") or seller["name"],
        "BT-42 contact's phone": seller.get("phone"),
        "BT-43 contact's e-mail": seller.get("email"),
        "BT-47 buyer's register": buyer.get("register"),
        "BT-50 buyer's street": buyer.get("street"),
        "BT-52 buyer's city": buyer.get("city"),
        "BT-53 buyer's postcode": buyer.get("postcode"),
        "BT-55 buyer's country": buyer["country"],
        "BT-72 delivered on": snapshot.period_until,
        "BT-81 means of payment": terms.means_code(snapshot),
        "BT-85 account's name": seller["name"],
        "BT-86 BIC": seller.get("bic"),
        "kind of tax": "VAT",
    }
    for side, term, party in (
        ("seller", "BT-34", parties.seller(snapshot)),
        ("buyer", "BT-49", parties.buyer(snapshot)),
    ):
        found |= {f"{term} {side}'s electronic address": party.address, f"{term} scheme": party.address_scheme}
    for line in snapshot.lines:
        found |= {f"line {line.line_no} {name}": value for name, value in _line_terms(snapshot, line).items()}
    return {name: _text(value) for name, value in found.items() if value not in (None, "")}


def _line_terms(snapshot: Snapshot, line: Line) -> dict[str, object]:
    has_own_period = (line.period_from, line.period_until) != (snapshot.period_from, snapshot.period_until)
    return {
        "BT-129 quantity": line.quantity,
        "BT-131 net": line.amount,
        "BT-134 from": line.period_from if has_own_period else None,
        "BT-135 until": line.period_until if has_own_period else None,
        "BT-146 price": line.price,
        "BT-149 base": line.base,
        "BT-151 VAT category": snapshot.tax_category,
        "BT-152 VAT rate": None if snapshot.tax_category == "O" else percent(snapshot.tax_rate),
        "BT-153 name": line.name,
        "BT-126 number": line.line_no,
        "BT-130 unit": PIECE,
        "BT-150 unit of base": PIECE,
        "BT-154 description": line.explanation,
        "kind of tax": "VAT",
    }


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date) else str(value)
