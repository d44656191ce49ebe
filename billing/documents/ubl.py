"""The snapshot as UBL 2.1 by XRechnung 3.0: an `Invoice`, or for type 381 a `CreditNote`."""

from __future__ import annotations

from decimal import Decimal

from billing.documents import parties, terms
from billing.documents.parties import Party
from billing.documents.snapshot import CREDIT_NOTE, Line, Snapshot
from billing.documents.xml_text import document, element, percent, text

CUSTOMIZATION = "urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0"
PROFILE = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
_URN = "urn:oasis:names:specification:ubl:schema:xsd"
_UNIT = "C62"  # one: a token, or a correction


def write(snapshot: Snapshot) -> bytes:
    """The file."""
    is_credit_note = snapshot.type == CREDIT_NOTE
    root = "CreditNote" if is_credit_note else "Invoice"
    euro, original = snapshot.euro_tax, snapshot.original
    return document(
        root,
        {
            "xmlns": f"{_URN}:{root}-2",
            "xmlns:cac": f"{_URN}:CommonAggregateComponents-2",
            "xmlns:cbc": f"{_URN}:CommonBasicComponents-2",
        },
        text("cbc:CustomizationID", CUSTOMIZATION),
        text("cbc:ProfileID", PROFILE),
        text("cbc:ID", snapshot.number),
        text("cbc:IssueDate", snapshot.issued_on),
        None if is_credit_note else text("cbc:DueDate", snapshot.due_on),
        text(f"cbc:{root}TypeCode", snapshot.type),
        text("cbc:Note", terms.note(snapshot)),
        text("cbc:DocumentCurrencyCode", snapshot.currency),
        text("cbc:TaxCurrencyCode", "EUR" if euro else None),
        text("cbc:BuyerReference", snapshot.buyer_reference),
        element(
            "cac:InvoicePeriod",
            text("cbc:StartDate", snapshot.period_from),
            text("cbc:EndDate", snapshot.period_until),
        ),
        element(
            "cac:BillingReference",
            element(
                "cac:InvoiceDocumentReference",
                text("cbc:ID", original.number),
                text("cbc:IssueDate", original.issued_on),
            ),
        )
        if original
        else None,
        element("cac:AccountingSupplierParty", _party(parties.seller(snapshot), is_seller=True)),
        element("cac:AccountingCustomerParty", _party(parties.buyer(snapshot), is_seller=False)),
        element("cac:Delivery", text("cbc:ActualDeliveryDate", snapshot.period_until)),
        _means(snapshot),
        element("cac:PaymentTerms", text("cbc:Note", terms.payment_terms(snapshot))),
        _tax_total(snapshot),
        element("cac:TaxTotal", text("cbc:TaxAmount", euro.amount, currencyID="EUR")) if euro else None,
        _totals(snapshot),
        *(_line(snapshot, line, root) for line in snapshot.lines),
    )


def _party(party: Party, *, is_seller: bool) -> str | None:
    return element(
        "cac:Party",
        text("cbc:EndpointID", party.address, schemeID=party.address_scheme or ""),
        element("cac:PartyName", text("cbc:Name", party.name)),
        element(
            "cac:PostalAddress",
            text("cbc:StreetName", party.street),
            text("cbc:CityName", party.city),
            text("cbc:PostalZone", party.postcode),
            element("cac:Country", text("cbc:IdentificationCode", party.country)),
        ),
        _tax_scheme(party.vat_id, "VAT"),
        _tax_scheme(party.tax_number, "FC") if is_seller else None,
        element(
            "cac:PartyLegalEntity",
            text("cbc:RegistrationName", party.name),
            text("cbc:CompanyID", party.register),
        ),
        element(
            "cac:Contact",
            text("cbc:Name", party.contact or party.name),
            text("cbc:Telephone", party.phone),
            text("cbc:ElectronicMail", party.email),
        )
        if is_seller
        else None,
    )


def _tax_scheme(id: str | None, scheme: str) -> str | None:
    if id is None:
        return None
    return element("cac:PartyTaxScheme", text("cbc:CompanyID", id), element("cac:TaxScheme", text("cbc:ID", scheme)))


def _means(snapshot: Snapshot) -> str | None:
    return element(
        "cac:PaymentMeans",
        text("cbc:PaymentMeansCode", terms.means_code(snapshot)),
        text("cbc:PaymentID", snapshot.payment_reference),
        element(
            "cac:PayeeFinancialAccount",
            text("cbc:ID", snapshot.seller.get("iban")),
            text("cbc:Name", snapshot.seller["name"]),
            element("cac:FinancialInstitutionBranch", text("cbc:ID", snapshot.seller.get("bic"))),
        ),
    )


def _tax_total(snapshot: Snapshot) -> str | None:
    currency = snapshot.currency
    return element(
        "cac:TaxTotal",
        text("cbc:TaxAmount", snapshot.tax, currencyID=currency),
        element(
            "cac:TaxSubtotal",
            text("cbc:TaxableAmount", snapshot.net, currencyID=currency),
            text("cbc:TaxAmount", snapshot.tax, currencyID=currency),
            element(
                "cac:TaxCategory",
                text("cbc:ID", snapshot.tax_category),
                text("cbc:Percent", percent(snapshot.tax_rate)),
                text("cbc:TaxExemptionReasonCode", snapshot.exemption_code),
                text("cbc:TaxExemptionReason", snapshot.exemption_reason),
                element("cac:TaxScheme", text("cbc:ID", "VAT")),
            ),
        ),
    )


def _totals(snapshot: Snapshot) -> str | None:
    currency = snapshot.currency
    return element(
        "cac:LegalMonetaryTotal",
        text("cbc:LineExtensionAmount", snapshot.net, currencyID=currency),
        text("cbc:TaxExclusiveAmount", snapshot.net, currencyID=currency),
        text("cbc:TaxInclusiveAmount", snapshot.gross, currencyID=currency),
        text("cbc:PrepaidAmount", snapshot.prepaid if snapshot.prepaid != Decimal(0) else None, currencyID=currency),
        text("cbc:PayableAmount", snapshot.due, currencyID=currency),
    )


def _line(snapshot: Snapshot, line: Line, root: str) -> str | None:
    has_own_period = (line.period_from, line.period_until) != (snapshot.period_from, snapshot.period_until)
    return element(
        f"cac:{root}Line",
        text("cbc:ID", line.line_no),
        text("cbc:InvoicedQuantity" if root == "Invoice" else "cbc:CreditedQuantity", line.quantity, unitCode=_UNIT),
        text("cbc:LineExtensionAmount", line.amount, currencyID=snapshot.currency),
        element("cac:InvoicePeriod", text("cbc:StartDate", line.period_from), text("cbc:EndDate", line.period_until))
        if has_own_period
        else None,
        element(
            "cac:Item",
            text("cbc:Description", line.explanation),
            text("cbc:Name", line.name),
            element(
                "cac:ClassifiedTaxCategory",
                text("cbc:ID", snapshot.tax_category),
                text("cbc:Percent", percent(snapshot.tax_rate) if snapshot.tax_category != "O" else None),
                element("cac:TaxScheme", text("cbc:ID", "VAT")),
            ),
        ),
        element(
            "cac:Price",
            text("cbc:PriceAmount", line.price, currencyID=snapshot.currency),
            text("cbc:BaseQuantity", line.base, unitCode=_UNIT),
        ),
    )
