"""The reference that a customer's bank transfer carries, so that the money finds its invoice without a person.

ISO 11649 ("RF" creditor reference): two check digits catch a mistyped one. Pure.
"""

from __future__ import annotations

import re

from stdnum import iso11649
from stdnum.exceptions import ValidationError
from stdnum.iso7064 import mod_97_10

_NOT_ALPHANUMERIC = re.compile(r"[^0-9A-Z]")
_MOST = 21  # characters that may follow "RF" and the check digits


def of_invoice(number: str) -> str:
    """The reference of an invoice number: `XDE-2026-000001` becomes `RF70XDE2026000001`; ValueError when too long."""
    body = _NOT_ALPHANUMERIC.sub("", number.upper())
    if not 1 <= len(body) <= _MOST:
        raise ValueError(f"A reference takes 1 to {_MOST} letters and digits of an invoice number; {number!r} has not.")
    return f"RF{mod_97_10.calc_check_digits(body + 'RF')}{body}"


def parse(text: str) -> str | None:
    """A reference as people and banks write it (spaces, lower case), made compact; None when it is none."""
    try:
        return str(iso11649.validate(text))
    except ValidationError:
        return None
