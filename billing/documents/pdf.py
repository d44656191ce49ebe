"""The PDF: PDF/A-3b set by Typst, the CII file attached, Factur-X metadata added. Byte-identical each time.

The only time inside is the day of issue. Only Typst's own fonts and the Chinese one beside the templates are used; a
character that neither has is an error that names it, since a name must print.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, time
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from billing.correction_paper import CorrectionPaper, correction_paper
from billing.documents.snapshot import Snapshot
from billing.paper import Paper, paper
from studio.errors import Conflict

if TYPE_CHECKING:
    from typst import Compiler

TEMPLATES = Path(__file__).parents[1] / "templates"
INVOICE_TEMPLATE = TEMPLATES / "invoice.typ"
CORRECTION_TEMPLATE = TEMPLATES / "correction.typ"
ATTACHMENT = "factur-x.xml"

_WITHOUT_GLYPH = re.compile(r'the text `"(.*?)"` could not be displayed', re.DOTALL)
_END_OF_SCHEMAS = re.compile(r"</rdf:Bag>\s*</pdfaExtension:schemas>")
_FACTUR_X = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_PROPERTIES = {
    "DocumentFileName": (ATTACHMENT, "The name of the embedded XML document"),
    "DocumentType": ("INVOICE", "The type of the hybrid document"),
    "Version": ("1.0", "The version of the standard"),
    "ConformanceLevel": ("EN 16931", "The profile of the XML document"),
}


class CharacterMissing(Conflict):
    """A name or an address has a character that no font of ours can print."""

    default_code = "character_missing"


def paper_of(snapshot: Snapshot) -> Paper | CorrectionPaper:
    """What stands on it, as text."""
    return correction_paper(snapshot) if snapshot.original is not None else paper(snapshot)


def render(snapshot: Snapshot, cii: bytes | None) -> bytes:
    """The file; with `cii`, a Factur-X hybrid. CharacterMissing."""
    import typst  # 20 MB that only the rendering process should load

    content = paper_of(snapshot)
    template = INVOICE_TEMPLATE if isinstance(content, Paper) else CORRECTION_TEMPLATE
    inputs = {"paper": json.dumps(asdict(content))}
    if cii is not None:
        inputs["cii"] = cii.decode()
    at = datetime.combine(snapshot.issued_on, time(), UTC)
    try:
        pdf = _compiler().compile(
            template, format="pdf", sys_inputs=inputs, timestamp=int(at.timestamp()), pdf_standards=["a-3b"]
        )
    except typst.TypstError as error:
        found = _WITHOUT_GLYPH.search(error.message)
        if found is None:
            raise
        raise CharacterMissing(
            f"{found[1]!r} in {_place_of(found[1], asdict(content)) or 'the document'} of {snapshot.number} cannot be"
            " printed: no font has it. Write it in another way, or add a font to billing/templates/fonts."
        ) from error
    assert isinstance(pdf, bytes)  # one file, as nothing but a PDF gives
    return pdf if cii is None else _hybrid(pdf)


@cache
def _compiler() -> Compiler:
    """Fonts are read once."""
    import typst

    fonts = typst.Fonts(include_system_fonts=False, font_paths=[str(TEMPLATES / "fonts")])
    return typst.Compiler(root=TEMPLATES, font_paths=fonts, ignore_system_fonts=True)


def _hybrid(pdf: bytes) -> bytes:
    """Typst cannot write metadata of other schemas, so that Factur-X's are put in afterwards."""
    import pikepdf

    with pikepdf.open(BytesIO(pdf)) as document:
        metadata = document.Root.Metadata.read_bytes().decode()
        document.Root.Metadata.write(_with_factur_x(metadata).encode())
        out = BytesIO()
        document.save(out, deterministic_id=True)
    return out.getvalue()


def _with_factur_x(xmp: str) -> str:
    values = "".join(f"<fx:{name}>{value}</fx:{name}>" for name, (value, _) in _PROPERTIES.items())
    described = "".join(
        f'<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>'
        "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{words}</pdfaProperty:description></rdf:li>"
        for name, (_, words) in _PROPERTIES.items()
    )
    schema = (
        '<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>'
        f"<pdfaSchema:namespaceURI>{_FACTUR_X}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>"
        f"<pdfaSchema:property><rdf:Seq>{described}</rdf:Seq></pdfaSchema:property></rdf:li>"
    )
    names = (
        f' xmlns:fx="{_FACTUR_X}" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"'
        ' xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#"'
        ' xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#"'
    )
    bag = _END_OF_SCHEMAS.search(xmp)
    if bag:  # Typst wrote one already, and two are not allowed
        xmp, schemas = xmp[: bag.start()] + schema + xmp[bag.start() :], ""
    else:
        schemas = f"<pdfaExtension:schemas><rdf:Bag>{schema}</rdf:Bag></pdfaExtension:schemas>"
    block = f'<rdf:Description rdf:about=""{names}>{values}{schemas}</rdf:Description>'
    head, end, tail = xmp.rpartition("</rdf:RDF>")
    assert end, "typst wrote no metadata"
    return f"{head}{block}{end}{tail}"


def _place_of(character: str, content: Any, path: str = "") -> str | None:
    """Which field holds a text, such as `buyer.name`."""
    if isinstance(content, str):
        return path if character in content else None
    items = content.items() if hasattr(content, "items") else enumerate(content) if _is_list(content) else ()
    found = (_place_of(character, value, f"{path}.{key}".lstrip(".")) for key, value in items)
    return next((place for place in found if place), None)


def _is_list(content: object) -> bool:
    return isinstance(content, list | tuple)
