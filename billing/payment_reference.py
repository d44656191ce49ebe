"""The reference that a customer's bank transfer carries, so that the money finds its invoice without a person.

ISO 11649 ("RF" creditor reference): two check digits catch a mistyped one. Pure.

A tenant has a reference of its own, too, for money that pays no invoice: it never changes.
"""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

from stdnum import iso11649
from stdnum.exceptions import ValidationError
from stdnum.iso7064 import mod_97_10

_NOT_ALPHANUMERIC = re.compile(r"[^0-9A-Z]")
_ALPHANUMERIC = re.compile(r"[0-9A-Z]")
_START = re.compile(r"(?<![0-9A-Z])RF[\s-]?[0-9]")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O, U, which are misread
TOP_UP = "TOPUP"
_MOST = 21  # characters that may follow "RF" and the check digits


def of_invoice(number: str) -> str:
    """The reference of an invoice number: `XDE-2026-000001` becomes `RF70XDE2026000001`; ValueError when too long."""
    body = _NOT_ALPHANUMERIC.sub("", number.upper())
    if not 1 <= len(body) <= _MOST:
        raise ValueError(f"A reference takes 1 to {_MOST} letters and digits of an invoice number; {number!r} has not.")
    return f"RF{mod_97_10.calc_check_digits(body + 'RF')}{body}"


def of_tenant(tenant_id: UUID) -> str:
    """A tenant's reference for top-ups, such as `RF12TOPUPK3F7Q2M9ZX`.

    50 bits of a hash: the same for ever without being kept. If two tenants ever had the same, money with it would wait
    for a person.
    """
    bits = int.from_bytes(hashlib.sha256(tenant_id.bytes).digest()[:7]) >> 6
    letters = "".join(_ALPHABET[bits >> shift & 31] for shift in range(45, -1, -5))
    return of_invoice(f"{TOP_UP}{letters}")


def body(reference: str) -> str:
    """What a valid reference says: the letters and digits of an invoice number, or of a tenant."""
    return reference[4:]


def found_in(text: str) -> list[str]:
    """Every valid reference that can be read in what somebody wrote into a transfer, compact, once each.

    Banks and people put spaces anywhere and write on after it, so where a reference ends is not known: each end between
    two words is tried, and one in a hundred fits by chance. Use those that somebody was given.
    """
    upper = text.upper()
    found: dict[str, None] = {}
    for start in _START.finditer(upper):
        characters = [match.start() for match in _ALPHANUMERIC.finditer(upper, start.start())][: _MOST + 4]
        for end in characters[4:]:
            if not upper[end + 1 : end + 2].isalnum() and (reference := parse(upper[start.start() : end + 1])):
                found[reference] = None
    return list(found)


def parse(text: str) -> str | None:
    """A reference as people and banks write it (spaces, lower case), made compact; None when it is none."""
    try:
        return str(iso11649.validate(text))
    except ValidationError:
        return None
