"""How e-invoices name seller and buyer: electronic address, tax ids, contact. From the frozen details of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.documents.snapshot import Snapshot

_E_MAIL = "EM"
# Code list EAS: the scheme of electronic addresses that are VAT ids, by country.
_VAT_SCHEMES = {
    "AT": "9914", "BE": "9925", "BG": "9926", "CY": "9928", "CZ": "9929", "DE": "9930", "EE": "9931", "ES": "9920",
    "FR": "9957", "GR": "9933", "HR": "9934", "HU": "9910", "IE": "9935", "IT": "9906", "LT": "9937", "LU": "9938",
    "LV": "9939", "MT": "9943", "NL": "9944", "PL": "9945", "PT": "9946", "RO": "9947", "SI": "9949", "SK": "9950",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Party:
    """One side of an invoice, as both syntaxes need it."""

    name: str
    street: str | None
    postcode: str | None
    city: str | None
    country: str
    address: str | None  # electronic
    address_scheme: str | None
    vat_id: str | None
    tax_number: str | None
    register: str | None
    contact: str | None
    phone: str | None
    email: str | None


def seller(snapshot: Snapshot) -> Party:
    """The seller. Outside the scope of VAT (O) no VAT id may stand on the invoice: the tax number stands for it."""
    return party(snapshot.seller, has_vat_id=snapshot.tax_category != "O")


def buyer(snapshot: Snapshot) -> Party:
    """The buyer."""
    return party(snapshot.buyer, has_vat_id=snapshot.tax_category != "O")


def party(details: Mapping[str, Any], has_vat_id: bool) -> Party:
    """One side, from its details: name and country at least."""

    def given(name: str) -> str | None:
        return str(details[name]) if details.get(name) else None

    email, vat_id, country = given("email"), given("vat_id"), str(details["country"])
    scheme = _E_MAIL if email else _VAT_SCHEMES.get(country) if vat_id and has_vat_id else None
    return Party(
        name=str(details["name"]),
        street=given("street"),
        postcode=given("postcode"),
        city=given("city"),
        country=country,
        address=(email or vat_id) if scheme else None,
        address_scheme=scheme,
        vat_id=vat_id if has_vat_id else None,
        tax_number=given("tax_number"),
        register=given("register"),
        contact=given("contact"),
        phone=given("phone"),
        email=email,
    )
