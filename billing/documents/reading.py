"""Reading e-invoices back, without a word of the code that writes them: business terms (BT) and their values as text.

What both syntaxes give must be what the snapshot says (`invariants.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

Facts = dict[str, str]

_CII = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "qdt": "urn:un:unece:uncefact:data:standard:QualifiedDataType:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
}
_UBL = {
    "cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
}
_AGREEMENT = "rsm:SupplyChainTradeTransaction/ram:ApplicableHeaderTradeAgreement"
_SETTLEMENT = "rsm:SupplyChainTradeTransaction/ram:ApplicableHeaderTradeSettlement"
_SUMS = f"{_SETTLEMENT}/ram:SpecifiedTradeSettlementHeaderMonetarySummation"
_VAT = f"{_SETTLEMENT}/ram:ApplicableTradeTax"
_SELLER, _BUYER = f"{_AGREEMENT}/ram:SellerTradeParty", f"{_AGREEMENT}/ram:BuyerTradeParty"
_CONTACT, _ADDRESS = f"{_SELLER}/ram:DefinedTradeContact", "ram:PostalTradeAddress"
_MEANS = f"{_SETTLEMENT}/ram:SpecifiedTradeSettlementPaymentMeans"
_CII_HEADER = {
    "BT-1 number": "rsm:ExchangedDocument/ram:ID",
    "BT-2 issued on": "rsm:ExchangedDocument/ram:IssueDateTime/udt:DateTimeString",
    "BT-3 type": "rsm:ExchangedDocument/ram:TypeCode",
    "BT-5 currency": f"{_SETTLEMENT}/ram:InvoiceCurrencyCode",
    "BT-6 tax currency": f"{_SETTLEMENT}/ram:TaxCurrencyCode",
    "BT-9 due on": f"{_SETTLEMENT}/ram:SpecifiedTradePaymentTerms/ram:DueDateDateTime/udt:DateTimeString",
    "BT-10 buyer reference": f"{_AGREEMENT}/ram:BuyerReference",
    "BT-25 original": f"{_SETTLEMENT}/ram:InvoiceReferencedDocument/ram:IssuerAssignedID",
    "BT-27 seller": f"{_AGREEMENT}/ram:SellerTradeParty/ram:Name",
    "BT-31 seller's VAT id": f"{_AGREEMENT}/ram:SellerTradeParty/ram:SpecifiedTaxRegistration/ram:ID[@schemeID='VA']",
    "BT-44 buyer": f"{_AGREEMENT}/ram:BuyerTradeParty/ram:Name",
    "BT-48 buyer's VAT id": f"{_AGREEMENT}/ram:BuyerTradeParty/ram:SpecifiedTaxRegistration/ram:ID[@schemeID='VA']",
    "BT-73 period from": f"{_SETTLEMENT}/ram:BillingSpecifiedPeriod/ram:StartDateTime/udt:DateTimeString",
    "BT-74 period until": f"{_SETTLEMENT}/ram:BillingSpecifiedPeriod/ram:EndDateTime/udt:DateTimeString",
    "BT-83 payment reference": f"{_SETTLEMENT}/ram:PaymentReference",
    "BT-84 IBAN": f"{_SETTLEMENT}/ram:SpecifiedTradeSettlementPaymentMeans/ram:PayeePartyCreditorFinancialAccount"
    "/ram:IBANID",
    "BT-106 sum of lines": f"{_SUMS}/ram:LineTotalAmount",
    "BT-109 net": f"{_SUMS}/ram:TaxBasisTotalAmount",
    "BT-112 gross": f"{_SUMS}/ram:GrandTotalAmount",
    "BT-113 prepaid": f"{_SUMS}/ram:TotalPrepaidAmount",
    "BT-115 due": f"{_SUMS}/ram:DuePayableAmount",
    "BT-116 VAT basis": f"{_VAT}/ram:BasisAmount",
    "BT-117 VAT of group": f"{_VAT}/ram:CalculatedAmount",
    "BT-118 VAT category": f"{_VAT}/ram:CategoryCode",
    "BT-119 VAT rate": f"{_VAT}/ram:RateApplicablePercent",
    "BT-120 exemption reason": f"{_VAT}/ram:ExemptionReason",
    "BT-121 exemption code": f"{_VAT}/ram:ExemptionReasonCode",
    "BT-20 payment terms": f"{_SETTLEMENT}/ram:SpecifiedTradePaymentTerms/ram:Description",
    "BT-22 note": "rsm:ExchangedDocument/ram:IncludedNote/ram:Content",
    "BT-24 rules": "rsm:ExchangedDocumentContext/ram:GuidelineSpecifiedDocumentContextParameter/ram:ID",
    "BT-26 original issued on": f"{_SETTLEMENT}/ram:InvoiceReferencedDocument/ram:FormattedIssueDateTime"
    "/qdt:DateTimeString",
    "BT-30 seller's register": f"{_SELLER}/ram:SpecifiedLegalOrganization/ram:ID",
    "BT-32 seller's tax number": f"{_SELLER}/ram:SpecifiedTaxRegistration/ram:ID[@schemeID='FC']",
    "BT-34 seller's electronic address": f"{_SELLER}/ram:URIUniversalCommunication/ram:URIID",
    "BT-34 scheme": f"{_SELLER}/ram:URIUniversalCommunication/ram:URIID/@schemeID",
    "BT-35 seller's street": f"{_SELLER}/{_ADDRESS}/ram:LineOne",
    "BT-37 seller's city": f"{_SELLER}/{_ADDRESS}/ram:CityName",
    "BT-38 seller's postcode": f"{_SELLER}/{_ADDRESS}/ram:PostcodeCode",
    "BT-40 seller's country": f"{_SELLER}/{_ADDRESS}/ram:CountryID",
    "BT-41 contact": f"{_CONTACT}/ram:PersonName",
    "BT-42 contact's phone": f"{_CONTACT}/ram:TelephoneUniversalCommunication/ram:CompleteNumber",
    "BT-43 contact's e-mail": f"{_CONTACT}/ram:EmailURIUniversalCommunication/ram:URIID",
    "BT-47 buyer's register": f"{_BUYER}/ram:SpecifiedLegalOrganization/ram:ID",
    "BT-49 buyer's electronic address": f"{_BUYER}/ram:URIUniversalCommunication/ram:URIID",
    "BT-49 scheme": f"{_BUYER}/ram:URIUniversalCommunication/ram:URIID/@schemeID",
    "BT-50 buyer's street": f"{_BUYER}/{_ADDRESS}/ram:LineOne",
    "BT-52 buyer's city": f"{_BUYER}/{_ADDRESS}/ram:CityName",
    "BT-53 buyer's postcode": f"{_BUYER}/{_ADDRESS}/ram:PostcodeCode",
    "BT-55 buyer's country": f"{_BUYER}/{_ADDRESS}/ram:CountryID",
    "BT-72 delivered on": "rsm:SupplyChainTradeTransaction/ram:ApplicableHeaderTradeDelivery"
    "/ram:ActualDeliverySupplyChainEvent/ram:OccurrenceDateTime/udt:DateTimeString",
    "BT-81 means of payment": f"{_MEANS}/ram:TypeCode",
    "BT-85 account's name": f"{_MEANS}/ram:PayeePartyCreditorFinancialAccount/ram:AccountName",
    "BT-86 BIC": f"{_MEANS}/ram:PayeeSpecifiedCreditorFinancialInstitution/ram:BICID",
    "kind of tax": f"{_VAT}/ram:TypeCode",
    "seller's kinds of tax id": f"{_SELLER}/ram:SpecifiedTaxRegistration/ram:ID/@schemeID",
    "buyer's kinds of tax id": f"{_BUYER}/ram:SpecifiedTaxRegistration/ram:ID/@schemeID",
}
_LINE_PERIOD = "ram:SpecifiedLineTradeSettlement/ram:BillingSpecifiedPeriod"
_CII_LINE = {
    "BT-129 quantity": "ram:SpecifiedLineTradeDelivery/ram:BilledQuantity",
    "BT-131 net": "ram:SpecifiedLineTradeSettlement/ram:SpecifiedTradeSettlementLineMonetarySummation"
    "/ram:LineTotalAmount",
    "BT-134 from": f"{_LINE_PERIOD}/ram:StartDateTime/udt:DateTimeString",
    "BT-135 until": f"{_LINE_PERIOD}/ram:EndDateTime/udt:DateTimeString",
    "BT-146 price": "ram:SpecifiedLineTradeAgreement/ram:NetPriceProductTradePrice/ram:ChargeAmount",
    "BT-149 base": "ram:SpecifiedLineTradeAgreement/ram:NetPriceProductTradePrice/ram:BasisQuantity",
    "BT-151 VAT category": "ram:SpecifiedLineTradeSettlement/ram:ApplicableTradeTax/ram:CategoryCode",
    "BT-152 VAT rate": "ram:SpecifiedLineTradeSettlement/ram:ApplicableTradeTax/ram:RateApplicablePercent",
    "BT-153 name": "ram:SpecifiedTradeProduct/ram:Name",
    "BT-126 number": "ram:AssociatedDocumentLineDocument/ram:LineID",
    "BT-130 unit": "ram:SpecifiedLineTradeDelivery/ram:BilledQuantity/@unitCode",
    "BT-150 unit of base": "ram:SpecifiedLineTradeAgreement/ram:NetPriceProductTradePrice/ram:BasisQuantity/@unitCode",
    "BT-154 description": "ram:SpecifiedTradeProduct/ram:Description",
    "kind of tax": "ram:SpecifiedLineTradeSettlement/ram:ApplicableTradeTax/ram:TypeCode",
}
_SUPPLIER, _CUSTOMER = "cac:AccountingSupplierParty/cac:Party", "cac:AccountingCustomerParty/cac:Party"
_SUBTOTAL, _TOTALS = "cac:TaxTotal/cac:TaxSubtotal", "cac:LegalMonetaryTotal"
_PAYMENT, _POSTAL = "cac:PaymentMeans", "cac:PostalAddress"
_UBL_HEADER = {
    "BT-1 number": "cbc:ID",
    "BT-2 issued on": "cbc:IssueDate",
    "BT-3 type": "cbc:{root}TypeCode",
    "BT-5 currency": "cbc:DocumentCurrencyCode",
    "BT-6 tax currency": "cbc:TaxCurrencyCode",
    "BT-9 due on": "cbc:DueDate",
    "BT-10 buyer reference": "cbc:BuyerReference",
    "BT-25 original": "cac:BillingReference/cac:InvoiceDocumentReference/cbc:ID",
    "BT-27 seller": f"{_SUPPLIER}/cac:PartyLegalEntity/cbc:RegistrationName",
    "BT-31 seller's VAT id": f"{_SUPPLIER}/cac:PartyTaxScheme[cac:TaxScheme='VAT']/cbc:CompanyID",
    "BT-44 buyer": f"{_CUSTOMER}/cac:PartyLegalEntity/cbc:RegistrationName",
    "BT-48 buyer's VAT id": f"{_CUSTOMER}/cac:PartyTaxScheme[cac:TaxScheme='VAT']/cbc:CompanyID",
    "BT-73 period from": "cac:InvoicePeriod/cbc:StartDate",
    "BT-74 period until": "cac:InvoicePeriod/cbc:EndDate",
    "BT-83 payment reference": "cac:PaymentMeans/cbc:PaymentID",
    "BT-84 IBAN": "cac:PaymentMeans/cac:PayeeFinancialAccount/cbc:ID",
    "BT-106 sum of lines": f"{_TOTALS}/cbc:LineExtensionAmount",
    "BT-109 net": f"{_TOTALS}/cbc:TaxExclusiveAmount",
    "BT-112 gross": f"{_TOTALS}/cbc:TaxInclusiveAmount",
    "BT-113 prepaid": f"{_TOTALS}/cbc:PrepaidAmount",
    "BT-115 due": f"{_TOTALS}/cbc:PayableAmount",
    "BT-116 VAT basis": f"{_SUBTOTAL}/cbc:TaxableAmount",
    "BT-117 VAT of group": f"{_SUBTOTAL}/cbc:TaxAmount",
    "BT-118 VAT category": f"{_SUBTOTAL}/cac:TaxCategory/cbc:ID",
    "BT-119 VAT rate": f"{_SUBTOTAL}/cac:TaxCategory/cbc:Percent",
    "BT-120 exemption reason": f"{_SUBTOTAL}/cac:TaxCategory/cbc:TaxExemptionReason",
    "BT-121 exemption code": f"{_SUBTOTAL}/cac:TaxCategory/cbc:TaxExemptionReasonCode",
    "BT-20 payment terms": "cac:PaymentTerms/cbc:Note",
    "BT-22 note": "cbc:Note",
    "BT-23 process": "cbc:ProfileID",
    "BT-24 rules": "cbc:CustomizationID",
    "BT-26 original issued on": "cac:BillingReference/cac:InvoiceDocumentReference/cbc:IssueDate",
    "BT-28 seller's trading name": f"{_SUPPLIER}/cac:PartyName/cbc:Name",
    "BT-30 seller's register": f"{_SUPPLIER}/cac:PartyLegalEntity/cbc:CompanyID",
    "BT-32 seller's tax number": f"{_SUPPLIER}/cac:PartyTaxScheme[cac:TaxScheme='FC']/cbc:CompanyID",
    "BT-34 seller's electronic address": f"{_SUPPLIER}/cbc:EndpointID",
    "BT-34 scheme": f"{_SUPPLIER}/cbc:EndpointID/@schemeID",
    "BT-35 seller's street": f"{_SUPPLIER}/{_POSTAL}/cbc:StreetName",
    "BT-37 seller's city": f"{_SUPPLIER}/{_POSTAL}/cbc:CityName",
    "BT-38 seller's postcode": f"{_SUPPLIER}/{_POSTAL}/cbc:PostalZone",
    "BT-40 seller's country": f"{_SUPPLIER}/{_POSTAL}/cac:Country/cbc:IdentificationCode",
    "BT-41 contact": f"{_SUPPLIER}/cac:Contact/cbc:Name",
    "BT-42 contact's phone": f"{_SUPPLIER}/cac:Contact/cbc:Telephone",
    "BT-43 contact's e-mail": f"{_SUPPLIER}/cac:Contact/cbc:ElectronicMail",
    "BT-45 buyer's trading name": f"{_CUSTOMER}/cac:PartyName/cbc:Name",
    "BT-47 buyer's register": f"{_CUSTOMER}/cac:PartyLegalEntity/cbc:CompanyID",
    "BT-49 buyer's electronic address": f"{_CUSTOMER}/cbc:EndpointID",
    "BT-49 scheme": f"{_CUSTOMER}/cbc:EndpointID/@schemeID",
    "BT-50 buyer's street": f"{_CUSTOMER}/{_POSTAL}/cbc:StreetName",
    "BT-52 buyer's city": f"{_CUSTOMER}/{_POSTAL}/cbc:CityName",
    "BT-53 buyer's postcode": f"{_CUSTOMER}/{_POSTAL}/cbc:PostalZone",
    "BT-55 buyer's country": f"{_CUSTOMER}/{_POSTAL}/cac:Country/cbc:IdentificationCode",
    "BT-72 delivered on": "cac:Delivery/cbc:ActualDeliveryDate",
    "BT-81 means of payment": f"{_PAYMENT}/cbc:PaymentMeansCode",
    "BT-85 account's name": f"{_PAYMENT}/cac:PayeeFinancialAccount/cbc:Name",
    "BT-86 BIC": f"{_PAYMENT}/cac:PayeeFinancialAccount/cac:FinancialInstitutionBranch/cbc:ID",
    "kind of tax": f"{_SUBTOTAL}/cac:TaxCategory/cac:TaxScheme/cbc:ID",
    "seller's kinds of tax id": f"{_SUPPLIER}/cac:PartyTaxScheme/cac:TaxScheme/cbc:ID",
    "buyer's kinds of tax id": f"{_CUSTOMER}/cac:PartyTaxScheme/cac:TaxScheme/cbc:ID",
}
_UBL_LINE = {
    "BT-129 quantity": "cbc:{quantity}",
    "BT-131 net": "cbc:LineExtensionAmount",
    "BT-134 from": "cac:InvoicePeriod/cbc:StartDate",
    "BT-135 until": "cac:InvoicePeriod/cbc:EndDate",
    "BT-146 price": "cac:Price/cbc:PriceAmount",
    "BT-149 base": "cac:Price/cbc:BaseQuantity",
    "BT-151 VAT category": "cac:Item/cac:ClassifiedTaxCategory/cbc:ID",
    "BT-152 VAT rate": "cac:Item/cac:ClassifiedTaxCategory/cbc:Percent",
    "BT-153 name": "cac:Item/cbc:Name",
    "BT-126 number": "cbc:ID",
    "BT-130 unit": "cbc:{quantity}/@unitCode",
    "BT-150 unit of base": "cac:Price/cbc:BaseQuantity/@unitCode",
    "BT-154 description": "cac:Item/cbc:Description",
    "kind of tax": "cac:Item/cac:ClassifiedTaxCategory/cac:TaxScheme/cbc:ID",
}
# UBL says the currency at each amount, CII the format at each day.
AMOUNTS = (
    "BT-106 sum of lines", "BT-109 net", "BT-112 gross", "BT-113 prepaid", "BT-115 due", "BT-116 VAT basis",
    "BT-117 VAT of group",
)  # fmt: skip
LINE_AMOUNTS = ("BT-131 net", "BT-146 price")
_UBL_HEADER |= {f"{name}, currency": f"{_UBL_HEADER[name]}/@currencyID" for name in AMOUNTS}
_UBL_LINE |= {f"{name}, currency": f"{_UBL_LINE[name]}/@currencyID" for name in LINE_AMOUNTS}


def is_day(term: str) -> bool:
    """Whether a term is a day, by its name."""
    return term.endswith((" on", " from", " until"))


_CII_HEADER |= {f"{name}, format": f"{path}/@format" for name, path in _CII_HEADER.items() if is_day(name)}
_CII_LINE |= {f"{name}, format": f"{path}/@format" for name, path in _CII_LINE.items() if is_day(name)}


def read_cii(xml: bytes) -> Facts:
    """The business terms of a CII file. A term that occurs twice is joined with `|`, so that it equals nothing."""
    root = ET.fromstring(xml)  # noqa: S314  # our own file
    facts = dict(_found(root, _CII_HEADER, _CII))
    for amount in root.iterfind(f"{_SUMS}/ram:TaxTotalAmount", _CII):
        _add_tax(facts, amount)
    lines = root.iterfind("rsm:SupplyChainTradeTransaction/ram:IncludedSupplyChainTradeLineItem", _CII)
    _add_lines(facts, lines, "ram:AssociatedDocumentLineDocument/ram:LineID", _CII_LINE, _CII)
    return {name: _day(value) if is_day(name) else value for name, value in facts.items()}


def read_ubl(xml: bytes) -> Facts:
    """The same of a UBL file."""
    root = ET.fromstring(xml)  # noqa: S314  # our own file
    kind = root.tag.rpartition("}")[2]
    quantity = "InvoicedQuantity" if kind == "Invoice" else "CreditedQuantity"
    facts = dict(_found(root, {name: path.format(root=kind) for name, path in _UBL_HEADER.items()}, _UBL))
    for amount in root.iterfind("cac:TaxTotal/cbc:TaxAmount", _UBL):
        _add_tax(facts, amount)
    paths = {name: path.format(quantity=quantity) for name, path in _UBL_LINE.items()}
    _add_lines(facts, root.iterfind(f"cac:{kind}Line", _UBL), "cbc:ID", paths, _UBL)
    return facts


def _found(element: ET.Element, paths: dict[str, str], names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The terms at their paths; one that ends with `/@name` is an attribute's."""
    for name, path in paths.items():
        at, _, attribute = path.partition("/@")
        found = element.iterfind(at, names)
        values = [(one.get(attribute, "") if attribute else one.text) or "" for one in found]
        if values:
            yield name, "|".join(values)


def _add_tax(facts: Facts, amount: ET.Element) -> None:
    """BT-110 is in the invoice's currency, BT-111 in that of the tax office."""
    is_own = amount.get("currencyID") == facts.get("BT-5 currency")
    name = "BT-110 VAT" if is_own else f"BT-111 VAT in {amount.get('currencyID')}"
    facts[name] = "|".join(filter(None, (facts.get(name), amount.text or "")))


def _add_lines(
    facts: Facts, lines: Iterator[ET.Element], id_path: str, paths: dict[str, str], names: dict[str, str]
) -> None:
    for line in lines:
        line_no = line.findtext(id_path, "?", names)
        for name, value in _found(line, paths, names):
            key = f"line {line_no} {name}"
            facts[key] = f"{facts[key]}|{value}" if key in facts else value


def _day(value: str) -> str:
    """20261102 -> 2026-11-02."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}"
