"""Each single value of an e-invoice, corrupted alone, is found by our own rules.

What they leave to the official ones is named here; it is no money, day, tax, party or reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree import ElementTree as ET

import pytest

from billing.documents import cii, invariants, ubl
from billing.documents.snapshot import Snapshot
from tests.billing.documents.samples import CHINESE_INVOICE, SAMPLES

EVERY = {**SAMPLES, "of a Chinese company": CHINESE_INVOICE}
WRITERS = {"cii": (cii.write, invariants.of_cii), "ubl": (ubl.write, invariants.of_ubl)}

# Ends of paths. How to reach somebody, where a bank account lies, and codes of which there is only one.
LEFT_TO_OFFICIAL_RULES = (
    # addresses and contacts
    "PostalTradeAddress/CityName", "PostalTradeAddress/LineOne", "PostalTradeAddress/PostcodeCode",
    "PostalAddress/CityName", "PostalAddress/PostalZone", "PostalAddress/StreetName", "PartyName/Name",
    "URIUniversalCommunication/URIID", "EmailURIUniversalCommunication/URIID", "Party/EndpointID",
    "TelephoneUniversalCommunication/CompleteNumber", "DefinedTradeContact/PersonName", "Contact/ElectronicMail",
    "Contact/Name", "Contact/Telephone",
    # names of registers and banks
    "SpecifiedLegalOrganization/ID", "PartyLegalEntity/CompanyID", "SpecifiedTaxRegistration/ID",
    "PartyTaxScheme/CompanyID", "PayeePartyCreditorFinancialAccount/AccountName",
    "PayeeSpecifiedCreditorFinancialInstitution/BICID", "FinancialInstitutionBranch/ID", "PayeeFinancialAccount/Name",
    # sentences for people
    "SpecifiedTradePaymentTerms/Description", "PaymentTerms/Note", "IncludedNote/Content", "Invoice/Note",
    "CreditNote/Note",
    # codes with one value
    "ApplicableTradeTax/TypeCode", "SpecifiedTradeSettlementPaymentMeans/TypeCode", "PaymentMeans/PaymentMeansCode",
    "TaxScheme/ID", "GuidelineSpecifiedDocumentContextParameter/ID", "CustomizationID", "ProfileID", "@unitCode",
    "@format", "@schemeID",
)  # fmt: skip


def corrupt(value: str) -> str:
    """The last digit is another one; without any, a letter more."""
    digits = [place for place, letter in enumerate(value) if letter.isdigit()]
    if not digits:
        return f"{value}x"
    last = digits[-1]
    return f"{value[:last]}{(int(value[last]) + 1) % 10}{value[last + 1 :]}"


def values(element: ET.Element, path: str = "") -> Iterator[tuple[str, Callable[[str], None], str]]:
    """Every text and attribute: where it stands, what changes it, and what it is."""
    here = f"{path}/{element.tag.rpartition('}')[2]}"
    if not len(element) and element.text:
        yield here, lambda text: setattr(element, "text", text), element.text
    for name, value in element.attrib.items():
        yield f"{here}@{name}", lambda text, name=name: element.attrib.__setitem__(name, text), value  # type: ignore[misc]
    for child in element:
        yield from values(child, here)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", EVERY)
def test_every_value_that_is_corrupted_alone_is_found(name: str, kind: str) -> None:
    content: Snapshot = EVERY[name]
    write, check = WRITERS[kind]
    root = ET.fromstring(write(content))  # noqa: S314  # our own file
    missed, corrupted = [], 0
    for path, change, value in list(values(root)):
        change(corrupt(value))
        corrupted += 1
        if not check(content, ET.tostring(root)):
            missed.append(path)
        change(value)
    assert check(content, ET.tostring(root)) == [], "as it was written"
    assert [path for path in missed if not path.endswith(LEFT_TO_OFFICIAL_RULES)] == []
    assert corrupted - len(missed) >= 30, "most of them are ours to find"
