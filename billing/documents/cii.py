"""The snapshot as UN/CEFACT Cross Industry Invoice, profile EN 16931 (ZUGFeRD, Factur-X): the PDF carries it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from billing.documents import parties, terms
from billing.documents.parties import Party
from billing.documents.snapshot import Line, Snapshot
from billing.documents.xml_text import document, element, percent, text

GUIDELINE = "urn:cen.eu:en16931:2017"
_NAMESPACES = {
    "xmlns:rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "xmlns:qdt": "urn:un:unece:uncefact:data:standard:QualifiedDataType:100",
    "xmlns:ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "xmlns:udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
}
_UNIT = "C62"  # one: a token, or a correction


def write(snapshot: Snapshot) -> bytes:
    """The file."""
    return document(
        "rsm:CrossIndustryInvoice",
        _NAMESPACES,
        element(
            "rsm:ExchangedDocumentContext",
            element("ram:GuidelineSpecifiedDocumentContextParameter", text("ram:ID", GUIDELINE)),
        ),
        element(
            "rsm:ExchangedDocument",
            text("ram:ID", snapshot.number),
            text("ram:TypeCode", snapshot.type),
            _day("ram:IssueDateTime", snapshot.issued_on),
            element("ram:IncludedNote", text("ram:Content", terms.note(snapshot))),
        ),
        element(
            "rsm:SupplyChainTradeTransaction",
            *(_line(snapshot, line) for line in snapshot.lines),
            element(
                "ram:ApplicableHeaderTradeAgreement",
                text("ram:BuyerReference", snapshot.buyer_reference),
                _party("ram:SellerTradeParty", parties.seller(snapshot), is_seller=True),
                _party("ram:BuyerTradeParty", parties.buyer(snapshot), is_seller=False),
            ),
            element(
                "ram:ApplicableHeaderTradeDelivery",
                element("ram:ActualDeliverySupplyChainEvent", _day("ram:OccurrenceDateTime", snapshot.period_until)),
            ),
            _settlement(snapshot),
        ),
    )


def _line(snapshot: Snapshot, line: Line) -> str | None:
    has_own_period = (line.period_from, line.period_until) != (snapshot.period_from, snapshot.period_until)
    return element(
        "ram:IncludedSupplyChainTradeLineItem",
        element("ram:AssociatedDocumentLineDocument", text("ram:LineID", line.line_no)),
        element(
            "ram:SpecifiedTradeProduct",
            text("ram:Name", line.name),
            text("ram:Description", line.explanation),
        ),
        element(
            "ram:SpecifiedLineTradeAgreement",
            element(
                "ram:NetPriceProductTradePrice",
                text("ram:ChargeAmount", line.price),
                text("ram:BasisQuantity", line.base, unitCode=_UNIT),
            ),
        ),
        element("ram:SpecifiedLineTradeDelivery", text("ram:BilledQuantity", line.quantity, unitCode=_UNIT)),
        element(
            "ram:SpecifiedLineTradeSettlement",
            element(
                "ram:ApplicableTradeTax",
                text("ram:TypeCode", "VAT"),
                text("ram:CategoryCode", snapshot.tax_category),
                text("ram:RateApplicablePercent", percent(snapshot.tax_rate) if snapshot.tax_category != "O" else None),
            ),
            _period(line.period_from, line.period_until) if has_own_period else None,
            element("ram:SpecifiedTradeSettlementLineMonetarySummation", text("ram:LineTotalAmount", line.amount)),
        ),
    )


def _party(name: str, party: Party, *, is_seller: bool) -> str | None:
    return element(
        name,
        text("ram:Name", party.name),
        element("ram:SpecifiedLegalOrganization", text("ram:ID", party.register)),
        element(
            "ram:DefinedTradeContact",
            text("ram:PersonName", party.contact or party.name),
            element("ram:TelephoneUniversalCommunication", text("ram:CompleteNumber", party.phone)),
            element("ram:EmailURIUniversalCommunication", text("ram:URIID", party.email)),
        )
        if is_seller
        else None,
        element(
            "ram:PostalTradeAddress",
            text("ram:PostcodeCode", party.postcode),
            text("ram:LineOne", party.street),
            text("ram:CityName", party.city),
            text("ram:CountryID", party.country),
        ),
        element("ram:URIUniversalCommunication", text("ram:URIID", party.address, schemeID=party.address_scheme or "")),
        element("ram:SpecifiedTaxRegistration", text("ram:ID", party.vat_id, schemeID="VA")),
        element("ram:SpecifiedTaxRegistration", text("ram:ID", party.tax_number, schemeID="FC")) if is_seller else None,
    )


def _settlement(snapshot: Snapshot) -> str | None:
    euro, original = snapshot.euro_tax, snapshot.original
    seller = snapshot.seller
    return element(
        "ram:ApplicableHeaderTradeSettlement",
        text("ram:PaymentReference", snapshot.payment_reference),
        text("ram:TaxCurrencyCode", "EUR" if euro else None),
        text("ram:InvoiceCurrencyCode", snapshot.currency),
        element(
            "ram:SpecifiedTradeSettlementPaymentMeans",
            text("ram:TypeCode", terms.means_code(snapshot)),
            element(
                "ram:PayeePartyCreditorFinancialAccount",
                text("ram:IBANID", seller.get("iban")),
                text("ram:AccountName", seller["name"]),
            ),
            element("ram:PayeeSpecifiedCreditorFinancialInstitution", text("ram:BICID", seller.get("bic"))),
        ),
        element(
            "ram:ApplicableTradeTax",
            text("ram:CalculatedAmount", snapshot.tax),
            text("ram:TypeCode", "VAT"),
            text("ram:ExemptionReason", snapshot.exemption_reason),
            text("ram:BasisAmount", snapshot.net),
            text("ram:CategoryCode", snapshot.tax_category),
            text("ram:ExemptionReasonCode", snapshot.exemption_code),
            text("ram:RateApplicablePercent", percent(snapshot.tax_rate)),
        ),
        _period(snapshot.period_from, snapshot.period_until),
        element(
            "ram:SpecifiedTradePaymentTerms",
            text("ram:Description", terms.payment_terms(snapshot)),
            _day("ram:DueDateDateTime", snapshot.due_on),
        ),
        element(
            "ram:SpecifiedTradeSettlementHeaderMonetarySummation",
            text("ram:LineTotalAmount", snapshot.net),
            text("ram:TaxBasisTotalAmount", snapshot.net),
            text("ram:TaxTotalAmount", snapshot.tax, currencyID=snapshot.currency),
            text("ram:TaxTotalAmount", euro.amount, currencyID="EUR") if euro else None,
            text("ram:GrandTotalAmount", snapshot.gross),
            text("ram:TotalPrepaidAmount", snapshot.prepaid if snapshot.prepaid != Decimal(0) else None),
            text("ram:DuePayableAmount", snapshot.due),
        ),
        element(
            "ram:InvoiceReferencedDocument",
            text("ram:IssuerAssignedID", original.number),
            _day("ram:FormattedIssueDateTime", original.issued_on, kind="qdt"),
        )
        if original
        else None,
    )


def _period(start: date, end: date) -> str | None:
    return element("ram:BillingSpecifiedPeriod", _day("ram:StartDateTime", start), _day("ram:EndDateTime", end))


def _day(name: str, day: date | None, kind: str = "udt") -> str | None:
    return element(name, text(f"{kind}:DateTimeString", f"{day:%Y%m%d}" if day else None, format="102"))
