"""Our own rules: content of every kind is clean, and each single thing that is wrong is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.documents import cii, invariants, pdf, pdf_check, rule_sets, ubl
from billing.documents.kinds import Kind
from billing.documents.making import judge_by_official_rules
from billing.documents.schematron import Schematron
from billing.documents.snapshot import Snapshot, from_json, to_json
from tests.billing.documents import samples
from tests.billing.documents.samples import CHINESE_INVOICE, SAMPLES, correction, in_yuan, line, snapshot

TODAY = date(2026, 11, 28)
EVERY = {**SAMPLES, "of a Chinese company": CHINESE_INVOICE}
INVOICE = SAMPLES["domestic"]


@pytest.mark.parametrize("name", EVERY)
def test_every_kind_is_clean_by_our_rules(name: str) -> None:
    content = EVERY[name]
    assert invariants.of_snapshot(content, TODAY) == []
    assert invariants.of_cii(content, cii.write(content)) == []
    assert invariants.of_ubl(content, ubl.write(content)) == []
    assert from_json(to_json(content)) == content


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_is_clean_by_the_official_rules(name: str, official: Schematron) -> None:
    documents: dict[Kind, bytes] = {"cii": cii.write(SAMPLES[name]), "ubl": ubl.write(SAMPLES[name])}
    verdicts = judge_by_official_rules(documents, official)
    names = {rules.name for rules in rule_sets.RULE_SETS} | {"XML schema CII", "XML schema UBL"}
    assert {(verdict.rule_set, verdict.findings) for verdict in verdicts} == {(name, ()) for name in names}


@given(
    tokens=st.lists(st.integers(1, 10**12), min_size=1, max_size=4),
    prices=st.lists(st.decimals("0.000001", "1000", places=6), min_size=4, max_size=4),
    rate=st.sampled_from(["0.1900", "0.0700", "0.0600"]),
    prepaid=st.decimals("0", "1", places=4),
)
@settings(max_examples=60, deadline=None)
def test_what_is_composed_rightly_is_never_refused(
    tokens: list[int], prices: list[Decimal], rate: str, prepaid: Decimal
) -> None:
    lines = tuple(
        line(number, count, f"{price:f}")
        for number, (count, price) in enumerate(zip(tokens, prices, strict=False), start=1)
    )
    whole = snapshot(lines=lines, tax_rate=Decimal(rate))
    content = snapshot(lines=lines, tax_rate=Decimal(rate), prepaid=(whole.gross * prepaid).quantize(Decimal("0.01")))
    assert invariants.of_snapshot(content, TODAY) == []
    assert invariants.of_cii(content, cii.write(content)) == []
    assert invariants.of_ubl(content, ubl.write(content)) == []


@given(cents=st.integers(-100, 100).filter(bool), where=st.sampled_from(["net", "tax", "gross", "due", "line"]))
@settings(max_examples=40, deadline=None)
def test_no_cent_is_tolerated(cents: int, where: str) -> None:
    off = Decimal(cents) / 100
    if where == "line":
        first = replace(INVOICE.lines[0], amount=INVOICE.lines[0].amount + off)
        wrong = replace(INVOICE, lines=(first, *INVOICE.lines[1:]))
    else:
        wrong = replace(INVOICE, **{where: getattr(INVOICE, where) + off})
    assert invariants.of_snapshot(wrong, TODAY)


# What is wrong, and the rule that says so.
WRONG: dict[str, tuple[Snapshot, str]] = {
    "a line that is another sum": (
        snapshot(lines=(line(amount=Decimal("4.02")),)),
        "LINE-IS-QUANTITY-TIMES-PRICE",
    ),
    "a line twice": (snapshot(lines=(line(1), line(1))), "LINES-EXIST"),
    "no line": (snapshot(lines=()), "LINES-EXIST"),
    "a negative price": (snapshot(lines=(line(price="-0.02"),)), "PRICE-NOT-NEGATIVE"),
    "another net total": (snapshot(net=Decimal("1225.21")), "NET-IS-SUM-OF-LINES"),
    "VAT off by 0.99": (snapshot(tax=INVOICE.tax + Decimal("0.99")), "TAX-IS-NET-TIMES-RATE"),
    "VAT rounded half even": (
        snapshot(lines=(line(quantity=75_000_000),), tax=Decimal("0.28")),
        "TAX-IS-NET-TIMES-RATE",
    ),
    "another gross total": (snapshot(gross=Decimal("1457.98")), "GROSS-IS-NET-PLUS-TAX"),
    "another amount due": (snapshot(due=Decimal("1.00")), "DUE-IS-GROSS-LESS-PREPAID"),
    "more prepaid than there is": (snapshot(prepaid=Decimal("2000.00")), "PREPAID-WITHIN-GROSS"),
    "a currency that banks trade only": (replace(in_yuan(), currency="CNH"), "CURRENCY-IS-ALLOWED"),
    "a category that we do not use": (snapshot(tax_category="Z"), "CATEGORY-IS-KNOWN"),
    "reverse charge with tax": (samples.reverse_charge(tax_rate=Decimal("0.1900")), "EXEMPT-HAS-NO-TAX"),
    "standard rate without tax": (snapshot(tax_rate=Decimal(0)), "STANDARD-HAS-TAX"),
    "reverse charge without its words": (samples.reverse_charge(exemption_reason=None), "EXEMPTION-IS-NAMED"),
    "reverse charge with another's code": (
        samples.reverse_charge(exemption_code="VATEX-EU-G"),
        "EXEMPTION-IS-NAMED",
    ),
    "reverse charge without the buyer's VAT id": (
        samples.reverse_charge(buyer={**samples.FRENCH, "vat_id": None}),
        "VAT-IDS-ARE-THERE",
    ),
    "reverse charge inland": (samples.reverse_charge(buyer=samples.GERMAN), "REVERSE-CHARGE-CROSSES-A-BORDER"),
    "yuan without VAT in EUR": (replace(in_yuan(), euro_tax=None), "TAX-IS-IN-EURO-TOO"),
    "yuan with the euro rate of another month": (
        replace(in_yuan(), euro_tax=replace(in_yuan().euro_tax, month=date(2026, 9, 1))),  # type: ignore[type-var]
        "EURO-RATE-IS-OF-THE-SUPPLY",
    ),
    "yuan with another VAT in EUR": (
        replace(in_yuan(), euro_tax=replace(in_yuan().euro_tax, amount=Decimal("1.00"))),  # type: ignore[type-var]
        "TAX-IS-IN-EURO-TOO",
    ),
    "issued tomorrow": (snapshot(issued_on=date(2026, 11, 29), due_on=date(2026, 12, 13)), "ISSUED-UNTIL-TODAY"),
    "a period over two months": (snapshot(period_from=date(2026, 9, 30)), "PERIOD-IS-IN-A-MONTH"),
    "a line before the period": (
        snapshot(lines=(line(period_from=date(2026, 9, 30)),)),
        "LINE-IS-IN-PERIOD",
    ),
    "due before it is issued": (snapshot(due_on=date(2026, 11, 1)), "DUE-AFTER-ISSUE"),
    "an amount due without a day": (snapshot(due_on=None), "DUE-DATE-IF-DUE"),
    "a credit note of nothing": (replace(correction("381"), original=None), "CORRECTION-NAMES-THE-ORIGINAL"),
    "a credit note of more than the line": (correction("381", "4.01"), "NOT-MORE-THAN-INVOICED"),
    "a negative credit note": (
        replace(correction("381"), net=Decimal("-1.00")),
        "TYPE-CARRIES-THE-SIGN",
    ),
    "a positive cancellation": (replace(correction("384"), net=Decimal("1.00")), "TYPE-CARRIES-THE-SIGN"),
    "a mistyped payment reference": (snapshot(payment_reference="RF71XDE2026000001"), "PAYMENT-REFERENCE-IS-VALID"),
    "the word of self-billing": (
        replace(correction("381"), original=replace(correction("381").original, reason="Gutschrift")),  # type: ignore[type-var]
        "NO-SELF-BILLING-WORD",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_thing_is_found_by_its_rule(name: str) -> None:
    content, rule = WRONG[name]
    assert rule in {broken.rule for broken in invariants.of_snapshot(content, TODAY)}


def test_a_correction_that_takes_the_rest_takes_its_tax_with_it() -> None:
    """Whatever rounding left of it; and a correction that does not take the rest does not."""
    original = replace(correction("381").original, net_left=Decimal("1.00"), tax_left=Decimal("0.18"))  # type: ignore[type-var]
    assert invariants.of_snapshot(correction("381", original=original, tax=Decimal("0.18")), TODAY) == []
    assert invariants.of_snapshot(correction("381", original=original), TODAY)


# One figure changed in the XML after it was written: what official rules let pass, and what ours say.
def _changed(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(xml: bytes) -> bytes:
        assert old.encode() in xml
        return xml.replace(old.encode(), new.encode(), 1)

    return change


CORRUPTED_UBL: dict[str, tuple[Callable[[bytes], bytes], bool, str]] = {
    # name: (change, whether the official rules find it, the term that ours name)
    "price": (_changed(">0.02<", ">0.020001<"), False, "line 1 BT-146 price"),
    "quantity": (_changed(">200000000<", ">200000001<"), False, "line 1 BT-129 quantity"),
    "base": (_changed(">1000000<", ">1000001<"), False, "line 1 BT-149 base"),
    "product": (_changed("prompt tokens</cbc:Name>", "prompts</cbc:Name>"), False, "line 1 BT-153 name"),
    "period of a line": (_changed(">2026-10-05<", ">2026-10-06<"), False, "line 2 BT-134 from"),
    "number": (_changed(">XDE-2026-000001<", ">XDE-2026-000002<"), False, "BT-1 number"),
    "issue date": (_changed(">2026-11-02<", ">2026-11-03<"), False, "BT-2 issued on"),
    "due date": (_changed(">2026-11-16<", ">2026-11-17<"), False, "BT-9 due on"),
    "seller's VAT id": (_changed(">DE999999999<", ">DE999999998<"), False, "BT-31 seller's VAT id"),
    "buyer": (_changed("<cbc:RegistrationName>Kunde AG", "<cbc:RegistrationName>Kunde SE"), False, "BT-44 buyer"),
    "payment reference": (_changed(">RF70XDE2026000001<", ">RF70XDE2026000002<"), False, "BT-83 payment reference"),
    "currency": (lambda xml: xml.replace(b"EUR", b"CNH"), False, "BT-5 currency"),
    "VAT rate": (
        _changed(">19.00</cbc:Percent><cac:TaxScheme>", ">16.00</cbc:Percent><cac:TaxScheme>"),
        True,
        "BT-119",
    ),
    "gross": (_changed(">1457.99</cbc:TaxInc", ">1457.98</cbc:TaxInc"), True, "BT-112 gross"),
    "due": (_changed(">1457.99</cbc:Payable", ">1457.98</cbc:Payable"), True, "BT-115 due"),
}


@pytest.mark.parametrize("name", CORRUPTED_UBL)
def test_one_corrupted_term_of_the_xml_is_named_though_validators_may_pass_it(name: str, official: Schematron) -> None:
    change, is_found_officially, term = CORRUPTED_UBL[name]
    corrupted = change(ubl.write(INVOICE))
    assert term in " ".join(broken.where for broken in invariants.of_ubl(INVOICE, corrupted))
    verdicts = judge_by_official_rules({"ubl": corrupted}, official)
    assert all(verdict.is_valid for verdict in verdicts) is not is_found_officially


def test_money_that_is_wrong_all_through_passes_the_official_rules_and_not_ours(official: Schematron) -> None:
    wrong = snapshot(tax=INVOICE.tax + Decimal("0.50"))
    documents: dict[Kind, bytes] = {"cii": cii.write(wrong), "ubl": ubl.write(wrong)}
    assert all(verdict.is_valid for verdict in judge_by_official_rules(documents, official))
    assert [broken.rule for broken in invariants.of_snapshot(wrong, TODAY)] == ["TAX-IS-NET-TIMES-RATE"]


def test_a_pdf_that_says_something_else_is_refused() -> None:
    xml = cii.write(INVOICE)
    assert pdf_check.of_pdf(INVOICE, pdf.render(INVOICE, xml), xml) == []
    for changes, rule in (
        ({"gross": Decimal("1457.98"), "due": Decimal("1457.98")}, "PDF-HAS-EVERY-AMOUNT"),
        ({"gross": Decimal("1457.98"), "due": Decimal("1457.98")}, "PDF-HAS-NO-OTHER-AMOUNT"),
        ({"number": "XDE-2026-000009"}, "PDF-HAS-EVERY-WORD"),
        ({"buyer": {**samples.GERMAN, "name": "Kunde SE"}}, "PDF-HAS-EVERY-WORD"),
    ):
        other: dict[str, Any] = dict(changes)
        printed = pdf.render(replace(INVOICE, **other), xml)
        assert rule in {broken.rule for broken in pdf_check.of_pdf(INVOICE, printed, xml)}
    foreign = pdf.render(INVOICE, cii.write(SAMPLES["prepaid"]))
    assert [broken.rule for broken in pdf_check.of_pdf(INVOICE, foreign, xml)] == ["PDF-CARRIES-THE-XML"]
